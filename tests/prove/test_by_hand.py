# SPDX-License-Identifier: Apache-2.0
"""Five attacks by hand, with setpriv, nsenter, dd and a shell, on workers that the real spawner started.

Each is made as what a worker is (its uid, or within its namespaces), and once more as root without any of that, to see
that it would have worked.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fabric.lab import Lab, send_signal
from tests.fabric.waiting import until
from tests.jail.rigged import HOME, Rig, place_bait, place_policy, policy_sources

pytestmark = pytest.mark.root

CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1]); print('connected')"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        place_bait(lab)
        yield lab


@pytest.fixture(scope="module")
def rig(lab: Lab) -> Iterator[Rig]:
    with Rig(lab, place_policy(lab, "plain", policy_sources())) as rig:
        yield rig


@pytest.fixture(scope="module")
def workers(rig: Rig) -> dict[str, dict[str, Any]]:
    """A parser, a provisioning worker, which sees the password, and a committer, all waiting for their request."""
    return {kind: rig.ask("start", kind=kind) for kind in ("parser", "provisioning", "sudoers")}


def run_as(lab: Lab, uid: int, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program as a worker's uid, with nothing else of its confinement."""
    privileges = ["--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--bounding-set=-all"] if uid else []
    return lab.run(["setpriv", *privileges, "--", *argv])


def first_writable(lab: Lab, pid: int) -> int:
    """Where the first writable memory of `pid` begins, for whoever may read that."""
    lines = lab.path(f"/proc/{pid}/maps").read_text().splitlines()
    return int(next(line for line in lines if " rw-p " in line).split("-")[0], 16)


def groups_of(lab: Lab, name: str) -> list[str]:
    """A worker's cgroups, as the lab reaches them."""
    found = []
    for hierarchy, top in lab.cgroups.items():
        if (top / "agent/workers" / name).is_dir():
            found.append(f"/sys/fs/cgroup/{hierarchy}/agent/workers/{name}".replace("//", "/"))
    return found


def test_another_workers_memory_is_not_read(lab: Lab, workers: dict[str, dict[str, Any]]) -> None:
    target = workers["provisioning"]
    place = first_writable(lab, target["pid"])
    read = f"dd if=/proc/{target['pid']}/mem bs=8 skip={place // 8} count=1 status=none | wc -c"
    for uid in (workers["parser"]["uid"], target["uid"]):
        done = run_as(lab, uid, "sh", "-c", read)
        assert (done.stdout.strip(), "Permission denied" in done.stderr) == ("0", True), done
    assert run_as(lab, 0, "sh", "-c", read).stdout.strip() == "8"


def test_another_workers_endpoint_is_not_claimed(lab: Lab, workers: dict[str, dict[str, Any]]) -> None:
    folder = "/run/agent-supervisor/w/provisioning.0"
    connect = [sys.executable, "-I", "-c", CONNECT, f"{folder}/s"]
    other = workers["parser"]["uid"]
    for argv in (connect, ["touch", f"{folder}/mine"], ["mkdir", "/run/agent-supervisor/w/parser.7"]):
        done = run_as(lab, other, *argv)
        assert (done.returncode != 0, "Permission denied" in done.stderr) == (True, True), done
    # In a worker's own view there is no such path, nor anything else of the host's.
    view = lab.path(f"/proc/{workers['parser']['pid']}/root")
    assert sorted(entry.name for entry in view.iterdir()) == ["channel"]
    assert run_as(lab, 0, "touch", f"{folder}/mine").returncode == 0
    lab.output("rm", f"{folder}/mine")


def test_nobody_leaves_its_cgroup(lab: Lab, workers: dict[str, dict[str, Any]]) -> None:
    groups = groups_of(lab, "parser.0")
    assert groups
    for group in groups:
        leave = f"echo $$ >{Path(group).parent}/cgroup.procs"
        done = run_as(lab, workers["parser"]["uid"], "sh", "-c", leave)
        assert (done.returncode != 0, "Permission denied" in done.stderr) == (True, True), done
        # A committer is uid 0. Its tree is sealed: there not even root with every capability can write to a group.
        sealed = ["nsenter", "--target", str(workers["sudoers"]["pid"]), "--mount", "--", "sh", "-c", leave]
        done = lab.run(sealed)
        assert (done.returncode != 0, "Read-only file system" in done.stderr) == (True, True), done
    # Into a group that takes a process, root without confinement moves as it likes.
    assert any(lab.run(["sh", "-c", f"echo $$ >{group}/cgroup.procs"]).returncode == 0 for group in groups)


def test_a_handed_descriptor_is_not_reopened(lab: Lab, workers: dict[str, dict[str, Any]]) -> None:
    secret = f"{HOME}/secret"
    uid = workers["parser"]["uid"]
    reopen = 'read -r line <&7 && echo "$line"; echo changed >/proc/self/fd/7'
    done = lab.run(
        [
            "sh",
            "-c",
            f'exec 7<{secret}; exec setpriv --reuid {uid} --regid {uid} --clear-groups -- sh -c "$0"',
            reopen,
        ]
    )
    assert done.stdout == "only root's\n"
    assert (done.returncode != 0, "Permission denied" in done.stderr) == (True, True), done
    copied = f"{HOME}/copy"
    lab.output("cp", secret, copied)
    assert lab.run(["sh", "-c", f'exec 7<{copied}; exec sh -c "$0"', reopen]).returncode == 0
    assert (lab.read(secret), lab.read(copied)) == (b"only root's\n", b"changed\n")


def test_nobody_outlives_a_kill(lab: Lab, rig: Rig) -> None:
    said = rig.ask("start", kind="parser")
    join = " ".join(f"echo $$ >{group}/cgroup.procs;" for group in groups_of(lab, said["name"]))
    # As what a worker would have to start to live on: in its groups, a session of its own, deaf to hang-ups.
    inside = lab.popen(["sh", "-c", f"{join} trap '' HUP TERM; exec setsid sleep 600"])
    outside = lab.popen(["sh", "-c", "trap '' HUP TERM; exec setsid sleep 601"])
    try:
        until("both sleep", lambda: {"600", "601"} <= sleepers(lab))
        rig.ask("finish", serial=said["serial"])
        until("the one in the group is gone", lambda: "600" not in sleepers(lab))
        assert "601" in sleepers(lab)
    finally:
        for process in (inside, outside):
            send_signal(process, signal.SIGKILL)
            process.wait(timeout=5)


def sleepers(lab: Lab) -> set[str]:
    """For how long each sleep in the lab means to sleep."""
    return {process.argv[1] for process in lab.processes() if process.argv[:1] == ("sleep",)}
