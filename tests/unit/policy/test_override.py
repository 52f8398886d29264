# SPDX-License-Identifier: Apache-2.0
"""Overrides: what a file may say, what comes of it, and how each fault in one is named."""

import re
from pathlib import Path

import pytest

from ipc.errors import ConfigError
from policy.groups import stages
from policy.lint import lint
from policy.load import own_folder
from policy.override import Merged, merge
from policy.profile import Profile
from policy.reach import loosenings
from policy.reading import read_policy
from policy.sources import read_sources

WHY = 'why = "Our machines need less than most."\n'
PROFILES, GROUPS = read_policy(read_sources(own_folder()))


def merged(*files: str) -> Merged:
    return merge(PROFILES, GROUPS, {f"{number}.toml": text.encode() for number, text in enumerate(files, 10)})


def kind(result: Merged, name: str) -> Profile:
    return next(profile for profile in result.profiles if profile.kind == name)


def loosened(result: Merged) -> list[str]:
    return loosenings(PROFILES, result.profiles, GROUPS)


def test_the_documents_examples_are_overrides_and_only_the_first_loosens_nothing() -> None:
    text = (Path(own_folder()).parent / "docs/policy-overrides.md").read_text(encoding="utf-8")
    tighter, looser, granting, _ = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    result = merged(tighter)
    assert loosened(result) == []
    assert lint(result.profiles, GROUPS) == []
    assert loosened(merged(looser)) == [
        "parser: limits.memory_mib: 512 is more than 128",
        "sudoers-programs: paths: /opt/sudo: execute, list, read",
    ]
    assert [grant.queries for grant in merged(granting).wireserver] == [("api-version=2017-12-01",)]


def test_nothing_said_changes_nothing() -> None:
    assert merged().profiles == PROFILES
    assert merged("").profiles == PROFILES


def test_a_tightening_of_every_sort_is_applied_and_no_loosening() -> None:
    result = merged(
        f"""[provisioning]
{WHY}
remove.requests = ["PlaceKeys", "SetPassword in provisioning"]
remove.calls = ["memfd_create"]
remove.locked_calls = ["madvise"]
remove.families = ["unix"]
limits = {{memory_mib = 64, cpu_weight = 50}}
lifetime.deadline_s = 5

[hostname]
{WHY}
remove.capabilities = ["sys_admin"]
hide = ["/srv/data"]
namespaces = ["uts"]
[sudoers-programs]
{WHY}
remove.runs = ["visudo"]
[supervisor]
{WHY}
remove.paths = ["/var/log"]
remove.start_capabilities = ["setpcap"]
"""
    )
    provisioning, hostname = kind(result, "provisioning"), kind(result, "hostname")
    assert {request.message for request in provisioning.requests} & {"PlaceKeys", "SetPassword"} == set()
    startup, locked = stages(provisioning, result.profiles, GROUPS)
    assert "memfd_create" not in startup.reachable | locked.reachable
    assert ("madvise" in startup.reachable, "madvise" in locked.reachable) == (True, False)
    assert provisioning.families.names == ()
    assert (provisioning.limits.memory_mib, provisioning.limits.cpu_weight) == (64, 50)
    assert provisioning.lifetime.deadline_s == 5
    assert "10.toml: Our machines need less" in provisioning.limits.why
    assert hostname.capability_names == frozenset()
    assert "/srv/data" in hostname.hidden
    assert "uts" in hostname.namespaces.new
    assert "/var/log" not in {grant.path for grant in kind(result, "supervisor").paths}
    assert kind(result, "sudoers-programs").runs == ()
    assert loosened(result) == []


def test_a_path_is_narrowed_by_removing_it_and_granting_a_part() -> None:
    narrowed = f'[hostname]\n{WHY}remove.paths = ["/etc"]\n[[hostname.grant.paths]]\naccess = "rw"\n{WHY}'
    result = merged(narrowed + 'path = "/etc/hostname"\n')
    assert [grant.path for grant in kind(result, "hostname").paths if grant.path.startswith("/etc")] == [
        "/etc/hostname"
    ]
    assert loosened(result) == []
    assert loosened(merged(narrowed + 'path = "/etcetera"\n')) == [
        "hostname: paths: /etcetera: list, read, remove, write"
    ]


def test_later_files_see_what_earlier_ones_left() -> None:
    lower = f"[parser]\n{WHY}limits.memory_mib = 64\n"
    assert kind(merged(lower, f"[parser]\n{WHY}limits.memory_mib = 32\n"), "parser").limits.memory_mib == 32
    removed = f'[parser]\n{WHY}remove.calls = ["memfd_create"]\n'
    with pytest.raises(ConfigError, match=r"policy.d/11.toml: \[parser\] remove.calls: memfd_create is not among"):
        merged(removed, removed)


def test_the_highest_level_and_all_mechanisms_are_demanded() -> None:
    result = merged('min_level = "reduced"\n', 'require = ["mdwe"]\n', 'min_level = "basic"\n')
    assert (result.min_level, result.required) == ("reduced", ("landlock", "mdwe", "memory-limit", "pids-limit"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[parser", "is not TOML"),
        ("a = " + "[" * 50_000, "nested too deeply"),
        ("[nobody]\n" + WHY, "[nobody]: there is no such kind"),
        ("[parser]\nlimits.pids = 2\n", "[parser] why: is missing"),
        ("parser = 1\n", "[parser] is a whole number, expected a table"),
        ('min_level = "best"\n', "min_level"),
        ('require = ["luck"]\n', "require"),
        (f"[parser]\n{WHY}remvoe.calls = []\n", "[parser] remvoe: there is no such key"),
        (f'[parser]\n{WHY}remove.call = ["read"]\n', "[parser] remove.call: there is no such key"),
        (f"[parser]\n{WHY}limits.memory = 1\n", "limits.memory: there is no such key"),
        (f"[parser]\n{WHY}limits.memory_mib = 1\n", "limits.memory_mib: expected a whole number of at least 8"),
        (f"[parser]\n{WHY}lifetime.instances = 1.5\n", "lifetime"),
        (f'[parser]\n{WHY}remove.capabilities = ["chown"]\n', "chown is not granted; granted: nothing"),
        (f'[hostname]\n{WHY}remove.paths = ["/etc/ssh"]\n', "/etc/ssh is only a part of /etc"),
        (f'[hostname]\n{WHY}remove.paths = ["/nowhere"]\n', "/nowhere is not granted"),
        (f'[parser]\n{WHY}remove.requests = ["Ovf in steady"]\n', "Ovf in steady is not granted"),
        (f'[parser]\n{WHY}remove.calls = ["mount"]\n', "mount is not among its system calls"),
        (
            f'[hostname]\n{WHY}[[hostname.grant.capabilities]]\nname = "sys_admin"\n{WHY}',
            "sys_admin is granted already",
        ),
        (
            f'[hostname]\n{WHY}[[hostname.grant.capabilities]]\nname = "kill"\n',
            "grant.capabilities, entry 1, why: is missing",
        ),
        (f'[hostname]\n{WHY}hide = ["srv"]\n', "hide"),
    ],
)
def test_a_fault_is_named_with_file_kind_and_key(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        merged("", text)
    assert caught.value.source == "policy.d/11.toml"
    assert named in caught.value.problem
