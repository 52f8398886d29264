# SPDX-License-Identifier: Apache-2.0
"""The agent as a service: systemd as process 1, the packaged unit, a first boot; then the ends a service meets."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest

from tests.fabric.lab import LabProcess, PlacedFile
from tests.fabric.outcome import judge
from tests.fabric.scene import Scene, Wanted, image_files
from tests.fabric.systemd_lab import UNIT, SystemdLab
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

BEAT = "WatchdogTimestampMonotonic"
GROUP = f"system.slice/{UNIT}"
IMPATIENT: dict[str, bytes | PlacedFile] = {f"/etc/systemd/system/{UNIT}.d/test.conf": b"[Service]\nWatchdogSec=1s\n"}


@contextmanager
def first_boot(
    wanted: Wanted, cgroup: Literal["host", "v2"] = "host", extra: dict[str, bytes | PlacedFile] | None = None
) -> Iterator[tuple[SystemdLab, Scene]]:
    """systemd up, the host listening, the DVD in the drive, the unit started and Ready accepted."""
    with SystemdLab({**image_files(), **(extra or {})}, cgroup=cgroup) as lab:
        scene = Scene(lab, GROUP)
        scene.start_host()
        scene.insert(wanted.medium())
        started = lab.systemctl("start", UNIT)
        assert started.returncode == 0, started.stderr + lab.journal(UNIT)
        try:
            scene.wait_until_ready()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{lab.journal(UNIT)}") from error
        yield lab, scene


@pytest.mark.parametrize("cgroup", ["host", "v2"])
def test_the_unit_provisions_the_vm(cgroup: Literal["host", "v2"], dvd: Wanted) -> None:
    with first_boot(dvd, cgroup) as (lab, scene):
        until("a sign that the loop turns", lambda: lab.show(UNIT, BEAT)[BEAT] != "0")
        shown = lab.show(UNIT, "ActiveState,SubState,Result,NRestarts,Delegate,ControlGroup,StatusText")
        assert (shown["ActiveState"], shown["SubState"], shown["Result"]) == ("active", "running", "success")
        assert (shown["NRestarts"], shown["Delegate"], shown["ControlGroup"]) == ("0", "yes", f"/{GROUP}")
        assert shown["StatusText"]
        assert [check for check in judge(scene, dvd) if not check.right] == []
        assert str(dvd.password) not in lab.journal(UNIT)
        made = [top / GROUP / "workers" for top in lab.cgroups.values() if (top / GROUP / "workers").is_dir()]
        assert made, "no worker's cgroup was made below the unit's own"


def test_systemctl_stop_ends_it_in_good_order(dvd: Wanted) -> None:
    with first_boot(dvd) as (lab, _):
        assert lab.systemctl("stop", UNIT).returncode == 0
        shown = lab.show(UNIT, "ActiveState", "Result", "ExecMainStatus", "ExecMainCode")
        assert (shown["ActiveState"], shown["Result"], shown["ExecMainStatus"]) == ("inactive", "success", "0")
        assert not [process for process in lab.processes() if any("supervisor" in word for word in process.argv)]


def test_a_killed_spawner_is_started_again_and_nothing_is_done_twice(dvd: Wanted) -> None:
    with first_boot(dvd) as (lab, scene):
        before = lab.read("/etc/passwd"), lab.read("/etc/shadow"), lab.read("/etc/ssh/ssh_host_ed25519_key")
        first = lab.show(UNIT, "MainPID")["MainPID"]
        old = {process.pid for process in lab.processes() if any("supervisor" in word for word in process.argv)}
        lab.kill(int(first), signal.SIGKILL)

        def is_back() -> bool:
            shown = lab.show(UNIT, "MainPID", "ActiveState", "NRestarts")
            is_new = shown["MainPID"] not in {"0", first}
            return is_new and (shown["ActiveState"], shown["NRestarts"]) == ("active", "1")

        until("the unit is up again", is_back)
        until("all of the old ones are gone", lambda: not old & {process.pid for process in lab.processes()})
        requests = len(scene.records())
        until("the new one asks the host", lambda: len(scene.records()) > requests)
        assert [report.health.state for report in scene.reports()].count("Ready") == 1
        assert before == (lab.read("/etc/passwd"), lab.read("/etc/shadow"), lab.read("/etc/ssh/ssh_host_ed25519_key"))


def test_a_supervisor_that_hangs_is_ended_by_the_watchdog(dvd: Wanted) -> None:
    with first_boot(dvd, extra=IMPATIENT) as (lab, _):
        assert lab.show(UNIT, "WatchdogUSec")["WatchdogUSec"] == "1s"

        def is_alone() -> list[LabProcess]:
            found = [process for process in lab.processes() if "supervisor.main" in process.argv]
            return found if len(found) == 1 else []

        # After provisioning a fresh one takes its place.
        (supervisor,) = until("the supervisor", is_alone)
        lab.kill(supervisor.pid, signal.SIGSTOP)
        until("the restart", lambda: lab.show(UNIT, "NRestarts")["NRestarts"] == "1", timeout_s=15)
        until("the new one", lambda: lab.show(UNIT, "ActiveState")["ActiveState"] == "active")
        assert supervisor.pid not in {process.pid for process in lab.processes()}
