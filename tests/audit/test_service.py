# SPDX-License-Identifier: Apache-2.0
"""Under systemd as process 1: the packaged unit's processes are as written, with version 1's groups and with 2's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest

from tests.audit.auditing import CLONE_IS_ROOTS, audit, green, red
from tests.fabric.scene import Scene, Wanted, image_files
from tests.fabric.systemd_lab import UNIT, SystemdLab
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

GROUP = f"system.slice/{UNIT}"
LACKING = "no cgroup hierarchy limits {} for the agent here"


@contextmanager
def service(cgroup: Literal["host", "v2"]) -> Iterator[SystemdLab]:
    """The unit started and the VM provisioned."""
    with SystemdLab(image_files(), cgroup=cgroup) as lab:
        scene = Scene(lab, GROUP)
        scene.start_host()
        scene.insert(Wanted().medium())
        started = lab.systemctl("start", UNIT)
        assert started.returncode == 0, started.stderr + lab.journal(UNIT)
        scene.wait_until_ready()
        yield lab


def test_the_service_is_as_written() -> None:
    with service("host") as lab:
        residents = ["machine", "spawner", "supervisor"]
        # The last workers may just be ending.
        until("the residents alone", lambda: [one.name for one in green(lab, "--deep").subjects] == residents)


def test_limits_that_the_machine_can_t_enforce_are_no_secret() -> None:
    """Version 2 alone may have no controller here: that is said aloud, and whether it counts is a matter of choice."""
    with service("v2") as lab:
        status, report = audit(lab, "--deep")
        absent = {
            one.name: one.note for subject in report.subjects for one in subject.checks if one.verdict == "absent"
        }
        controllers = (lab.path("/sys/fs/cgroup/cgroup.controllers")).read_text().split()
        lacking = [name for name in ("memory", "pids", "cpu") if name not in controllers]
        assert red(report) == {}
        assert absent == ({"limits": LACKING.format(", ".join(lacking))} if lacking else {})
        assert status == (1 if lacking else 0)
        if CLONE_IS_ROOTS:
            assert audit(lab, "--accept-absent")[0] == 0
