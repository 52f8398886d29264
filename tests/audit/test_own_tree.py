# SPDX-License-Identifier: Apache-2.0
"""The supervisor's own mount tree on a machine with systemd: whoever is in it, root with every capability even, finds
no socket of systemd's; it is there again after each start; and one that is missing, or opened, is red."""

import signal

import pytest

from tests.audit.auditing import audit, green, red
from tests.audit.test_service import service
from tests.fabric.lab import Lab
from tests.fabric.scene import image_files
from tests.fabric.systemd_lab import UNIT
from tests.fabric.vm import booted
from tests.fabric.waiting import until
from tests.jail.mutants import Mutation
from tests.least.boots import CONFIG, start_of
from tests.least.variants import Variants, read

pytestmark = pytest.mark.root

UNSEALED = Mutation("supervisor.jail.resident_tree", "        is_ours = _leave()\n", "        is_ours = False\n")
STARTS, TOLD = " starts with ", "has no mount tree of its own"
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
SOCKETS = ("/run/systemd/private", "/run/dbus/system_bus_socket")


def supervisor_of(lab: Lab) -> int:
    """Its number in the lab."""

    def pid() -> int:
        return next((one.pid for one in lab.processes() if "supervisor.main" in one.argv), 0)

    return until("there is a supervisor", pid)


def reaches(lab: Lab, pid: int, *argv: str) -> bool:
    """Whether a program of root's with every capability succeeds among the mounts of `pid`."""
    return lab.run(["nsenter", "--target", str(pid), "--mount", "--", *argv]).returncode == 0


def expect_closed(lab: Lab, pid: int) -> None:
    for path in SOCKETS:
        connect = ("/usr/bin/python3", "-I", "-c", CONNECT, path)
        assert (reaches(lab, pid, *connect), reaches(lab, 1, *connect)) == (False, True), path
    chmod = ("chmod", "u+s", "/usr/bin/env")
    assert (reaches(lab, pid, *chmod), reaches(lab, 1, *chmod)) == (False, True)
    lab.output("chmod", "u-s", "/usr/bin/env")


def test_there_is_no_way_to_systemd_from_it_after_any_start() -> None:
    with service("host") as lab:
        until("a supervisor that stays", lambda: lab.journal(UNIT).count(STARTS) == 2)
        green(lab)
        first = supervisor_of(lab)
        expect_closed(lab, first)
        mirrored = lab.output("journalctl", "-t", "agent-supervisor-audit", "-o", "cat")
        assert "agent-start" in mirrored
        lab.output("kill", f"-{int(signal.SIGKILL)}", str(first))
        until("another supervisor", lambda: supervisor_of(lab) != first)
        green(lab, "--deep")
        expect_closed(lab, supervisor_of(lab))
        assert lab.show(UNIT, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


def test_one_that_is_missing_is_told_and_red() -> None:
    with start_of(Variants(read()), image_files(CONFIG), (UNSEALED,)) as vm:
        vm.boot(vm.wanted.medium())
        until("Ready", vm.scene.is_ready)
        assert TOLD in vm.scene.log()
        found = red(audit(vm.lab)[1])
        assert {"supervisor: namespaces", "supervisor: mounts"} <= set(found)
        assert any("mount namespace: the machine's" in one for one in found["supervisor: namespaces"])


def test_what_is_lifted_off_it_is_seen() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        until("a supervisor that stays", lambda: vm.scene.is_settled() and vm.scene.is_fresh())
        green(vm.lab)
        for folder in ("/var", "/run"):
            enter = f"nsenter --target {supervisor_of(vm.lab)} --mount --"
            vm.lab.output(*enter.split(), "umount", "--no-mtab", "--lazy", folder)
            found = red(audit(vm.lab)[1])
            assert list(found) == ["supervisor: mounts"]
            assert any(f"its {folder} is the machine's" in one for one in found["supervisor: mounts"]), found
