# SPDX-License-Identifier: Apache-2.0
"""The exported units say what the policy says: the same calls, no claim that the jail does not keep, within budget."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from policy.compile import compile_policy
from policy.edition import Edition, edition_of
from policy.exposure import read_weights
from policy.filter_reach import otherwise, reach
from policy.filters import number
from policy.groups import CallSet, Only
from policy.installed import facts, here
from policy.lint import RESIDENT, TENANTS
from policy.load import own_folder
from policy.profile import Capability, PathGrant, Profile
from policy.reading import read_policy
from policy.sources import read_sources
from policy.units.export import export, unit_name
from policy.units.set_ids import can_set_ids
from supervisor.cli import policy_systemd

WHY = "what the test is about"
SOURCES = read_sources(own_folder())
Directives = dict[str, list[str]]


@pytest.fixture(scope="module")
def shipped() -> Edition:
    return here(edition_of(*read_policy(SOURCES)), "/var/lib/waagent")


@pytest.fixture(scope="module")
def units(shipped: Edition) -> dict[str, str]:
    return export(shipped.profiles.values(), shipped.groups, sys.executable)


def directives(text: str) -> Directives:
    """Name -> values, as systemd reads them."""
    found: Directives = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if "=" in line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(" ".join(value.split()))
    return found


def unit_with(shipped: Edition, kind: str, **changes: object) -> Directives:
    """The unit of `kind` once its profile is another."""
    profiles = {**shipped.profiles, kind: replace(shipped.profiles[kind], **changes)}
    return directives(export(profiles.values(), shipped.groups, sys.executable)[unit_name(kind)])


def test_each_filter_is_the_compiled_one(units: dict[str, str]) -> None:
    for compiled in compile_policy(SOURCES).programs:
        kind = compiled.profile.kind
        unit = directives(units[unit_name(kind)])
        (names,) = unit["SystemCallFilter"]
        numbers = {number(name, kind) for name in names.split()} - {None}
        assert numbers == set(reach(compiled.locked_filter, kind)), kind
        # A unit without an error number kills.
        told = {"kill": None, "enosys": ["ENOSYS"]}[otherwise(compiled.locked_filter, kind)]
        assert unit.get("SystemCallErrorNumber") == told
        assert unit["SystemCallArchitectures"] == ["native"]


def test_identity_and_limits_are_the_profiles(shipped: Edition, units: dict[str, str]) -> None:
    for kind, profile in shipped.profiles.items():
        unit = directives(units[unit_name(kind)])
        assert unit["User"] == unit["Group"] == [str(profile.identity.uid)]
        assert set(unit["CapabilityBoundingSet"][0].split()) == {
            f"CAP_{name.upper()}" for name in profile.capability_names
        }
        families = {f"AF_{name.upper()}" for name in profile.families.names} or {"none"}
        assert set(unit["RestrictAddressFamilies"][0].split()) == families
        if kind != "spawner":
            assert unit["MemoryMax"] == [f"{profile.limits.memory_mib}M"]
            assert unit["TasksMax"] == [str(profile.limits.pids)]
            assert unit["LimitNOFILE"] == [str(profile.limits.open_files)]
            assert unit["NoNewPrivileges"] == ["yes"]


def test_the_spawner_claims_next_to_nothing(units: dict[str, str]) -> None:
    unit = directives(units[unit_name("spawner")])
    held = {"NoNewPrivileges", "SecureBits", "PrivateNetwork", "ProtectSystem", "ProtectHome", "RestrictNamespaces",
            "PrivateDevices", "ProtectKernelTunables", "MemoryMax", "PrivateMounts", "RestrictSUIDSGID"}  # fmt: skip
    assert held & set(unit) == set()


def grants(*added: PathGrant) -> Callable[[Profile], dict[str, object]]:
    return lambda profile: {"paths": (*profile.paths, *added)}


def without(name: str) -> Callable[[Profile], dict[str, object]]:
    def less(profile: Profile) -> dict[str, object]:
        kept = tuple(each for each in profile.namespaces.new if each != name)
        return {"namespaces": replace(profile.namespaces, new=kept)}

    return less


def holding(name: str) -> Callable[[Profile], dict[str, object]]:
    return lambda profile: {"capabilities": (*profile.capabilities, Capability(name, WHY))}


def calling(*names: str) -> Callable[[Profile], dict[str, object]]:
    return lambda profile: {"locked_calls": replace(profile.locked_calls, names=(*profile.locked_calls.names, *names))}


def path(where: str, access: str = "rw") -> PathGrant:
    return PathGrant(where, access, WHY)  # type: ignore[arg-type]


# What is taken away from the jail of a committer in the host's sealed tree, and the claims that must go with it.
TAKEN = {
    "its network": (without("net"), {"PrivateNetwork"}),
    "its host name": (
        lambda profile: {**without("uts")(profile), **calling("sethostname")(profile)}, {"ProtectHostname"},
    ),
    "its IPC": (without("ipc"), {"PrivateIPC", "RemoveIPC"}),
    "its mounts": (without("mount"), {"ProtectSystem"}),
    "all may be written": (grants(path("/")), {"ProtectSystem", "ProtectHome", "PrivateTmp", "ProtectKernelTunables"}),
    "homes": (grants(path("/home/someone")), {"ProtectHome"}),
    "temporary files": (grants(path("/var/tmp/x", "ro")), {"PrivateTmp"}),
    "a disk": (grants(path("/dev/sda")), {"PrivateDevices"}),
    "all devices": (grants(path("/dev", "ro")), {"PrivateDevices", "DevicePolicy", "ProtectKernelLogs"}),
    "sysctl": (grants(path("/proc/sys/kernel")), {"ProtectKernelTunables"}),
    "cgroups": (grants(path("/sys/fs/cgroup")), {"ProtectControlGroups"}),
    "processes": (grants(path("/proc", "ro")), {"ProtectProc", "ProcSubset"}),
    "the clock's right": (holding("sys_time"), {"ProtectClock"}),
    "the clock's call": (calling("clock_settime"), {"ProtectClock"}),
    "the modules' call": (calling("finit_module"), {"ProtectKernelModules"}),
    "the log's right": (holding("syslog"), {"ProtectKernelLogs"}),
    "namespaces' call": (calling("unshare"), {"RestrictNamespaces"}),
    "clone, all of it": (calling("clone"), {"RestrictNamespaces"}),
    "priorities": (holding("sys_nice"), {"RestrictRealtime"}),
    "personality": (calling("personality"), {"LockPersonality"}),
    "keys": (calling("keyctl"), {"KeyringMode"}),
    "Landlock, as who looks at others is without": (
        holding("sys_ptrace"), {"ProtectHome", "PrivateTmp", "PrivateDevices", "NoExecPaths", "ProtectProc"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TAKEN)
def test_no_claim_outlives_what_keeps_it(shipped: Edition, units: dict[str, str], what: str) -> None:
    change, claims = TAKEN[what]
    before = directives(units[unit_name("root-lock")])
    assert claims <= set(before)
    after = unit_with(shipped, "root-lock", **change(shipped.profiles["root-lock"]))
    assert {claim for claim in claims if after.get(claim) == before[claim]} == set()


def test_a_namespace_of_users_is_claimed_by_who_has_one(shipped: Edition, units: dict[str, str]) -> None:
    assert directives(units[unit_name("parser")])["PrivateUsers"] == ["yes"]
    assert "PrivateUsers" not in unit_with(shipped, "parser", **without("user")(shipped.profiles["parser"]))


@pytest.mark.parametrize(
    ("only", "able"),
    [
        ((), False),
        ((Only("fchmod", 1, (0,), WHY, mask=0o6000),), False),
        ((Only("fchmod", 1, (0, 0o4000), WHY, mask=0o6000),), True),
        ((Only("fchmod", 0, (0,), WHY, mask=0o6000),), True),
        ((Only("openat", 2, (0,), WHY, mask=0o100), Only("openat", 3, (0,), WHY, mask=0o6000)), False),
        ((Only("openat", 2, (0, 0o100), WHY, mask=0o100),), True),
    ],
)
def test_set_id_bits_are_refused_only_where_every_way_is_judged(
    shipped: Edition, only: tuple[Only, ...], able: bool
) -> None:
    committer = replace(facts(shipped)["account"], calls=CallSet(frozenset({"read"}), frozenset(), only, "kill"))
    assert can_set_ids(committer) == able
    plain = replace(committer, calls=CallSet(frozenset({"chmod"}), frozenset(), (), "kill"))
    assert can_set_ids(plain)
    assert not can_set_ids(replace(plain, profile=replace(plain.profile, paths=())))


@pytest.fixture(scope="module")
def analyze() -> str:
    found = policy_systemd.program()
    assert found, "systemd-analyze is not installed: make setup"
    return found


def test_the_units_keep_the_budgets(analyze: str, units: dict[str, str]) -> None:
    """Never to be met by a claim that the jail does not keep: the tests above hold those."""
    scores = policy_systemd.scores(analyze, units)
    budgets = read_weights().budgets
    over = {}
    for name, score in scores.items():
        kind = name.removeprefix("agent-supervisor-").removesuffix(".service")
        budget = budgets.get(kind, None if kind in RESIDENT | TENANTS else budgets["worker"])
        if budget is not None and score.exposure > budget:
            over[kind] = score.exposure
    assert over == {}


def test_systemd_finds_nothing_wrong_with_them(analyze: str, units: dict[str, str], tmp_path: Path) -> None:
    for name, text in units.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=yes", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "agent-supervisor" in line] == []
    assert done.returncode == 0


def test_a_unit_that_systemd_does_not_understand_has_no_score(analyze: str) -> None:
    with pytest.raises(ValueError, match="complains"):
        policy_systemd.scores(analyze, {"x.service": "[Service]\nExecStart=/bin/true\nCPUQuota=a lot\n"})
