# SPDX-License-Identifier: Apache-2.0
"""Every kind of worker, caught alive while it waits for its request: the kernel's facts against its policy's TOML.

The facts are read from outside by this test's own means; nothing of the agent's verifier is used for it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ipc.provided import PROGRAMS
from ipc.records import Op, Order, pack_order
from policy.capability import NAMES, mask
from policy.load import load, own_folder
from policy.profile import PathGrant, Profile
from policy.reading import read_policy
from policy.sources import read_sources
from tests.fabric.lab import Lab
from tests.fabric.waiting import until
from tests.jail.rigged import Rig, place_bait, place_policy, policy_sources

pytestmark = pytest.mark.root

PROFILES = {profile.kind: profile for profile in read_policy(read_sources(own_folder()))[0]}
STARTED = sorted(kind for kind, profile in PROFILES.items() if profile.is_worker)
KINDS = sorted({*STARTED, *(PROFILES[kind].programs for kind in STARTED)} - {""})
EXPANDED = {compiled.profile.kind: compiled.profile.paths for compiled in load().programs}
NAMESPACES = {
    "mount": "mnt",
    "uts": "uts",
    "ipc": "ipc",
    "net": "net",
    "cgroup": "cgroup",
    "user": "user",
    "pid": "pid",
}


class Live(NamedTuple):
    """One worker: its policy, its /proc folder, and what the fleet said when it started it."""

    profile: Profile
    proc: Path
    said: dict[str, Any]


@pytest.fixture
def lab_to_break() -> Iterator[Lab]:
    with Lab() as lab:
        place_bait(lab)
        yield lab


@pytest.fixture
def rig_to_break(lab_to_break: Lab) -> Iterator[Rig]:
    with Rig(lab_to_break, place_policy(lab_to_break, "plain", policy_sources())) as rig:
        yield rig


@pytest.fixture(scope="module")
def workers(rig: Rig) -> dict[str, Live]:
    """One of each kind, all alive at once, each with its companion if policy names one."""
    found = {}
    for kind in STARTED:
        said = rig.ask("start", kind=kind)
        assert "pid" in said, said
        found[kind] = Live(PROFILES[kind], rig.proc(said["pid"]), said)
        if companion := PROFILES[kind].programs:
            told = {**said, "name": f"{companion}.0", "pid": said["companion"], "uid": 0}
            found[companion] = Live(PROFILES[companion], rig.proc(said["companion"]), told)
    return found


@pytest.fixture(params=KINDS)
def live(request: pytest.FixtureRequest, workers: dict[str, Live]) -> Live:
    return workers[request.param]


def status(folder: Path) -> dict[str, str]:
    lines = (folder / "status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


def uid_of(live: Live) -> int:
    number = int(live.said["name"].rpartition(".")[2])
    return live.profile.identity.uid + number if live.profile.identity.uid else 0


def test_every_thread_has_the_policys_ids_capabilities_and_filters(live: Live) -> None:
    bits = sum(1 << NAMES.index(capability.name) for capability in live.profile.capabilities)
    threads = list((live.proc / "task").iterdir())
    assert len(threads) == (1 if live.profile.transport == "packet" else 3)
    for thread in threads:
        facts = status(thread)
        assert facts["Uid"] == facts["Gid"] == " ".join([str(uid_of(live))] * 4)
        assert facts["Groups"] == ""
        assert {facts[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd")} == {f"{bits:016x}"}
        assert facts["CapAmb"] == f"{mask(live.profile.ambient_names):016x}"
        assert (facts["NoNewPrivs"], facts["Seccomp"], facts["Seccomp_filters"]) == ("1", "2", "3")


def test_namespaces_are_its_own_or_the_hosts_as_the_policy_says(live: Live, rig: Rig) -> None:
    own = {
        name
        for name, file in NAMESPACES.items()
        if (live.proc / "ns" / file).readlink() != (rig.proc(rig.spawner) / "ns" / file).readlink()
    }
    assert own == set(live.profile.namespaces.new)
    if "pid" in own:
        assert status(live.proc)["NSpid"].split()[-1] == "1"
    if "user" in own:
        assert (live.proc / "uid_map").read_text().split() == [str(uid_of(live))] * 2 + ["1"]


def test_its_root_holds_what_the_policy_names_and_nothing_else(live: Live, lab: Lab) -> None:
    if live.profile.view == "host":
        assert (live.proc / "root").stat().st_ino == lab.path("/").stat().st_ino
        if "mount" in live.profile.namespaces.new:
            granted = [grant.path for grant in EXPANDED[live.profile.kind] if _is_written(grant, lab)]
            folders = set(lab.output("realpath", "--", *granted).split()) if granted else set()
            assert "/" in folders or _writable(live) == folders
        return
    grants = {grant.path: grant.access for grant in EXPANDED[live.profile.kind]}
    there = {path for path in grants if path == "/channel" or lab.path(path).exists()}
    assert {entry.name for entry in (live.proc / "root").iterdir()} == {Path(path).parts[1] for path in there}
    mounts = {
        line.split()[4]: line.split()[5].split(",") for line in (live.proc / "mountinfo").read_text().splitlines()
    }
    assert set(mounts) == {"/", *there}
    for point, options in mounts.items():
        access = grants.get(point, "ro")
        assert {"nosuid", "nodev"} <= set(options)
        assert ("rw" in options) == (access == "rw")
        assert ("noexec" in options) == (access != "rx")


def _is_written(grant: PathGrant, lab: Lab) -> bool:
    return grant.access in {"rw", "tools", "remove"} and lab.path(grant.path).is_dir()


def _writable(live: Live) -> set[str]:
    """Where its mounts can be written."""
    mounts = {
        line.split()[4]: line.split()[5].split(",") for line in (live.proc / "mountinfo").read_text().splitlines()
    }
    return {point for point, options in mounts.items() if "rw" in options}


def test_the_cgroup_limits_hold(live: Live, lab: Lab) -> None:
    limits = live.profile.limits
    quota = str(limits.cpu_percent * 1000)
    wanted = {
        "memory.limit_in_bytes": str(limits.memory_mib << 20),
        "memory.max": str(limits.memory_mib << 20),
        "pids.max": str(limits.pids),
        "cpu.cfs_quota_us": quota,
        "cpu.max": f"{quota} 100000",
        "cpu.shares": str(limits.cpu_weight * 1024 // 100),
        "cpu.weight": str(limits.cpu_weight),
    }
    found: dict[str, str] = {}
    for top in lab.cgroups.values():
        folder = top / "agent/workers" / live.said["name"]
        if folder.is_dir():
            found |= {name: (folder / name).read_text().strip() for name in wanted if (folder / name).exists()}
            assert _started_within(folder) == [_started(live.proc)]
    assert found == {name: wanted[name] for name in found}
    assert {name.split(".")[0] for name in found} == {"memory", "pids", "cpu"}


def _started_within(cgroup: Path) -> list[str]:
    """When the processes of `cgroup` started: the host numbers them otherwise, but the time is the same."""
    return [_started(Path("/proc", pid)) for pid in (cgroup / "cgroup.procs").read_text().split()]


def _started(proc: Path) -> str:
    return (proc / "stat").read_text().rpartition(")")[2].split()[19]


def test_resource_limits(live: Live) -> None:
    limits = live.profile.limits
    text = (live.proc / "limits").read_text().splitlines()[1:]
    found = {line[:26].strip(): line[26:].split()[:2] for line in text}
    wanted = {
        "Max open files": limits.open_files,
        "Max file size": limits.file_size_mib << 20,
        "Max processes": limits.pids,
        "Max core file size": 0,
        "Max locked memory": 0,
        "Max msgqueue size": 0,
    }
    for name, value in wanted.items():
        assert found[name] == [str(value)] * 2, name


def test_it_holds_no_descriptor_but_its_own(live: Live) -> None:
    links = {int(entry.name): str(entry.readlink()) for entry in (live.proc / "fd").iterdir()}
    assert (links.pop(0), links.pop(1)) == ("/dev/null", "/dev/null")
    assert links.pop(2).startswith("pipe:")
    assert links.pop(3).startswith("socket:")
    if live.profile.programs:
        assert links.pop(PROGRAMS).startswith("socket:")
    if live.profile.transport == "packet":
        assert not links
    else:
        # libzmq's own: what its threads wake each other with, and the one connection to the supervisor.
        others = [link for link in links.values() if not link.startswith("anon_inode:[event")]
        assert len(others) == 1
        assert others[0].startswith("socket:")


def test_others_of_its_uid_can_not_look_into_it(live: Live) -> None:
    if uid_of(live):
        assert (live.proc / "status").stat().st_uid == 0
    assert status(live.proc)["Umask"] == "0077"


def test_a_program_started_afresh_gets_no_environment(workers: dict[str, Live], rig: Rig) -> None:
    """A forked worker has no program of its own: what the kernel shows there is how the spawner was started."""
    assert (workers["vault"].proc / "environ").read_bytes() == b""
    spawners = set((rig.proc(rig.spawner) / "environ").read_bytes().split(b"\0"))
    for live in workers.values():
        assert set((live.proc / "environ").read_bytes().split(b"\0")) <= spawners


def test_no_two_live_workers_share_a_uid(workers: dict[str, Live], rig: Rig) -> None:
    second = rig.ask("start", kind="parser")
    uids = [live.said["uid"] for live in workers.values() if live.said["uid"]] + [second["uid"]]
    assert second["uid"] == workers["parser"].said["uid"] + 1
    assert len(set(uids)) == len(uids)
    rig.ask("finish", serial=second["serial"])


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"kind": "nosuch"}, "no policy"),
        ({"kind": "supervisor"}, "no policy"),
        ({"kind": "spawner"}, "no policy"),
        ({"kind": "account-programs"}, "no policy"),
        ({"kind": ""}, "no policy"),
        ({"kind": "parser", "instance": 8}, "allows 8"),
        ({"kind": "hostname", "instance": 1}, "allows 1"),
        ({"kind": "hostname"}, "still alive"),
        ({"kind": "parser", "instance": 7, "given": 0}, "0 descriptors"),
        ({"kind": "parser", "instance": 7, "given": 1}, "1 descriptors"),
        ({"kind": "parser", "instance": 7, "given": 3}, "3 descriptors"),
    ],
)
def test_the_spawner_refuses_what_policy_does_not_give(
    order: dict[str, Any], reason: str, workers: dict[str, Live], rig: Rig
) -> None:
    # One of them is among those that the test keeps.
    until("the last verifier's end", lambda: len(rig.ask("waiting", kind="verifier")["ready"]) <= 1)
    before = rig.ask("status")["alive"]
    answer = rig.ask("order", **order)
    assert answer["happened"] == "REFUSED"
    assert reason in answer["text"]
    assert answer["alive"] == before >= len(STARTED)


def test_the_spawner_refuses_a_serial_number_in_use(workers: dict[str, Live], rig: Rig) -> None:
    answer = rig.ask("order", kind="parser", instance=7, serial=workers["parser"].said["serial"])
    assert (answer["happened"], "in use" in answer["text"]) == ("REFUSED", True)


GOOD = pack_order(Order(Op.START, 77, 0, "vault"))


@pytest.mark.parametrize(
    "record",
    [GOOD + b"\0", b"XXXX" + GOOD[4:], GOOD[:4] + b"\x09\0" + GOOD[6:], GOOD[:-1] + b"x"],
    ids=["too long", "no magic", "no such order", "words after the name"],
)
def test_who_sends_no_record_is_killed_and_started_anew(rig_to_break: Rig, record: bytes) -> None:
    rig = rig_to_break
    before, worker = rig.supervisor, rig.ask("start", kind="parser")["pid"]
    rig.tell("raw", record=record.hex())
    rig.wait_for_next_supervisor()
    assert rig.supervisor != before
    rig.ended(before)
    rig.ended(worker)
    assert "no valid order" in rig.log()
    assert "pid" in rig.ask("start", kind="parser")


def test_with_the_supervisor_its_workers_die(lab_to_break: Lab, rig_to_break: Rig) -> None:
    rig = rig_to_break
    before, pids = rig.supervisor, [rig.ask("start", kind=kind)["pid"] for kind in ("parser", "vault", "account")]
    lab_to_break.kill(before)
    rig.wait_for_next_supervisor()
    for pid in pids:
        rig.ended(pid)
    assert "pid" in rig.ask("start", kind="parser")


def test_with_the_spawner_everything_dies(lab_to_break: Lab, rig_to_break: Rig) -> None:
    rig = rig_to_break
    started = [rig.ask("start", kind=kind) for kind in STARTED]
    assert all("pid" in said for said in started), (started, rig.log())
    pids = [said["pid"] for said in started] + [said["companion"] for said in started if said["companion"]]
    lab_to_break.kill(rig.spawner)
    for pid in (*pids, rig.supervisor):
        rig.ended(pid)
