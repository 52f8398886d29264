# SPDX-License-Identifier: Apache-2.0
"""The lab itself: what runs in it is real, the machine stays as it was, and nothing is left, however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fabric import cgroups
from tests.fabric.host_state import LEFT_CGROUPS, HostState, snapshot
from tests.fabric.lab import PROJECT, Lab, PlacedFile
from tests.fabric.overlay import Change
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

# A stand-in for the agent: every kind of change that provisioning makes, by the distribution's own tools.
WORK = """
useradd -m lab-user
echo 'lab-user:secret' | chpasswd
hostname lab-vm && printf lab-vm >/etc/hostname
install -d -m 0700 -o lab-user -g lab-user /home/lab-user/.ssh
echo 'ssh-ed25519 AAAA' >/home/lab-user/.ssh/authorized_keys
chmod 0700 /etc/cron.d
rm /etc/issue
for folder in /sys/fs/cgroup/*/; do mkdir -p "$folder/of-the-lab"; done
echo gone >/tmp/gone; echo gone >/run/gone
"""


def changes_by_path(lab: Lab) -> dict[str, Change]:
    return {change.path: change for change in lab.changed()}


def is_same_machine(before: HostState) -> bool:
    """Others share this machine: only what stays different counts."""

    def ours() -> list[str]:
        lines = before.differences(snapshot())
        return [line for line in lines if cgroups.PREFIX in line or not line.startswith(LEFT_CGROUPS)]

    until(f"the machine is as before, {ours()}", lambda: not ours())
    return True


def gone(lab_cgroups: dict[str, Path]) -> Callable[[], bool]:
    return lambda: not [folder for folder in lab_cgroups.values() if folder.exists()]


def test_real_tools_change_the_overlay_and_not_the_machine() -> None:
    before = snapshot()
    with Lab({"/etc/waagent.conf": PlacedFile(b"Provisioning.Agent=auto\n", 0o600)}) as lab:
        done = lab.run(["sh", "-ec", WORK])
        assert (done.returncode, done.stderr) == (0, "")
        assert lab.output("hostname").strip() == "lab-vm"
        assert lab.output("getent", "passwd", "lab-user").split(":")[5] == "/home/lab-user"
        assert lab.output("stat", "-c", "%a", "/etc/waagent.conf").strip() == "600"
        found = changes_by_path(lab)
        account = next(line.split(":") for line in lab.read("/etc/passwd").decode().splitlines() if "lab-user" in line)
        uid, gid = int(account[2]), int(account[3])
    assert found["/etc/shadow"].kind == "modified"
    assert found["/etc/issue"] == Change("/etc/issue", "deleted", 0, 0, 0)
    assert (found["/etc/cron.d"].kind, found["/etc/cron.d"].permissions) == ("modified", 0o700)
    keys = found["/home/lab-user/.ssh"]
    assert (keys.kind, keys.permissions, keys.uid, keys.gid) == ("added", 0o700, uid, gid)
    assert not {"/etc/waagent.conf", "/etc/machine-id", "/etc", "/home", "/tmp/gone", "/run/gone"} & found.keys()
    assert is_same_machine(before)


def test_a_file_written_with_its_own_content_is_no_change() -> None:
    with Lab() as lab:
        assert lab.changed() == []
        lab.run(["sh", "-c", "cp /etc/passwd /tmp/p; cat /tmp/p >/etc/passwd; rm -rf /etc/cron.d; mkdir /etc/cron.d"])
        assert not [change for change in lab.changed() if change.path == "/etc/passwd"]
        hidden = {str(path) for path in Path("/etc/cron.d").iterdir()}
        assert {change.path for change in lab.changed() if change.kind == "deleted"} == hidden


def test_the_project_and_the_machine_wide_settings_are_read_only() -> None:
    with Lab() as lab:
        script = f"touch '{PROJECT}/x'; echo 1 >/proc/sys/vm/swappiness; echo 1 >/sys/kernel/mm/ksm/run; true"
        refused = lab.run(["sh", "-c", script]).stderr
        assert refused.count("Read-only file system") >= 2
        assert not (PROJECT / "x").exists()


def test_the_host_has_its_address_and_the_lab_no_other_network() -> None:
    with Lab() as lab:
        assert "168.63.129.16/32" in lab.output("ip", "-brief", "address")
        assert len(lab.output("ip", "-brief", "link").splitlines()) == 1


@pytest.mark.parametrize("mode", ["host", "v2"])
def test_cgroups_are_the_labs_own_and_can_be_used(mode: str) -> None:
    with Lab(cgroup="v2" if mode == "v2" else "host") as lab:
        assert lab.cgroups
        top = "/sys/fs/cgroup" if mode == "v2" or "" in lab.cgroups else "/sys/fs/cgroup/unified"
        script = f"mkdir {top}/job && echo 0 >{top}/job/cgroup.procs && grep ^0: /proc/self/cgroup"
        assert lab.output("sh", "-ec", script).strip() == "0::/job"
        version_2 = lab.cgroups.get("unified") or lab.cgroups[""]
        assert (version_2 / "job").is_dir()
        made = lab.cgroups
    assert gone(made)()


def test_processes_are_seen_and_killed_by_the_labs_own_numbers() -> None:
    with Lab() as lab:
        sleeper = lab.popen(["setpriv", "--reuid", "12345", "--clear-groups", "sleep", "1000"])
        (one,) = until("the sleeper", lambda: [p for p in lab.processes() if p.argv == ("sleep", "1000")])
        assert (one.name, one.uid) == ("sleep", 12345)
        lab.kill(one.pid, signal.SIGKILL)
        assert sleeper.wait(timeout=5) == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            lab.kill(one.pid)


def test_a_command_that_takes_too_long_is_ended() -> None:
    with Lab() as lab:
        with pytest.raises(subprocess.TimeoutExpired):
            lab.run(["sleep", "1000"], timeout_s=0.2)
        until("its end", lambda: not [p for p in lab.processes() if p.name == "sleep"])


def test_leaving_the_lab_ends_what_still_runs_there() -> None:
    with Lab() as lab:
        left = lab.popen(["sh", "-c", "setsid sleep 1000 & exec sleep 1000"])
        until("both", lambda: len([p for p in lab.processes() if p.name == "sleep"]) == 2)
        made, init = lab.cgroups, lab.init_pid
    assert gone(made)()
    assert not cgroups.started(init)
    assert left.wait(timeout=5) == -signal.SIGKILL


STARTER = """
import sys, signal
from tests.fabric.lab import Lab
with Lab() as lab:
    job = lab.popen(["sleep", "1000"])
    print(lab.keeper_pid, lab.init_pid, *lab.cgroups.values(), flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("victim", ["starter", "keeper"])
def test_nothing_is_left_when_a_process_of_the_lab_is_killed(victim: str) -> None:
    before = snapshot()
    with subprocess.Popen([sys.executable, "-c", STARTER], cwd=PROJECT, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        keeper, init, *folders = starter.stdout.readline().decode().split()
        inside = Path(f"/proc/{init}/ns/pid").readlink()
        os.kill(starter.pid if victim == "starter" else int(keeper), signal.SIGKILL)
        until("the end of the lab's processes", lambda: not cgroups.started(int(init)))
        starter.kill()
    if victim == "keeper":
        with Lab():  # the next lab clears what the killed keeper could not
            pass
    until("the removal of its cgroups", gone({folder: Path(folder) for folder in folders}))
    until("the end of its keeper", lambda: not cgroups.started(int(keeper)))
    left = [path.parts[2] for path in Path("/proc").glob("[0-9]*/ns/pid") if _link(path) == inside]
    assert not [pid for pid in left if cgroups.started(int(pid))]
    assert is_same_machine(before)


def _link(path: Path) -> Path | None:
    try:
        return path.readlink()
    except OSError:
        return None
