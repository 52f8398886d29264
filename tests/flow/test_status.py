# SPDX-License-Identifier: Apache-2.0
"""`agent-supervisor status` at every moment: before the agent, while it provisions, after, across its deaths."""

import msgspec
import pytest

from supervisor.status import Status
from tests.fabric.media import make_medium
from tests.fabric.scene import AGENT, kill_process, supervisor_pid
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

PATIENT = QUICK.replace(b"MediaTimeout=1", b"MediaTimeout=60")

LOOKS = "looks for the medium"
TOLD = "/run/told"


def asked(vm: Vm, *options: str) -> tuple[int, str]:
    """Exit status and first line."""
    done = vm.lab.run([str(AGENT), "status", *options])
    return done.returncode, (done.stdout or done.stderr).partition("\n")[0]


def status(vm: Vm, *options: str) -> tuple[int, Status]:
    """Exit status and all that is told."""
    done = vm.lab.run([str(AGENT), "status", "--json", *options])
    return done.returncode, msgspec.json.decode(done.stdout, type=Status)


def test_waiting_lasts_from_before_the_start_over_every_death_to_the_end() -> None:
    with booted(config=PATIENT) as vm:
        with vm.lab.path(TOLD).open("wb") as out:
            waiting = vm.lab.popen([str(AGENT), "status", "--wait", "--json"], stdout=out)
        assert asked(vm) == (3, "agent-supervisor: the agent is not running")
        vm.boot(None)
        until("its look for the medium", lambda: vm.story().startswith(LOOKS))
        assert asked(vm) == (0, "status: running")
        first = supervisor_pid(vm.agent)
        assert kill_process(first)
        until("the next supervisor", lambda: supervisor_pid(vm.agent) != first and vm.story().startswith(LOOKS))
        assert waiting.poll() is None
        vm.scene.insert(vm.wanted.medium())
        assert waiting.wait(timeout=30) == 0
        told = msgspec.json.decode(vm.lab.read(TOLD), type=Status)
        assert (told.status, told.ready, told.troubles) == ("done", True, ())
        assert vm.readies() == 1
        vm.scene.wait_until_ready()
        assert kill_process(supervisor_pid(vm.agent))
        assert status(vm, "--wait")[0] == 0
        code, told = status(vm)
        assert (code, told.status, told.ready, told.agent) == (0, "done", True, "agent-supervisor")
        assert told.detail == "done on an earlier start"
        vm.scene.stop_agent(vm.agent)
        assert asked(vm)[0] == 3


def test_what_the_host_does_not_accept_is_missing_and_nothing_else() -> None:
    faults = ("roleproperties:status=400",)
    with booted(faults=faults) as vm:
        vm.boot(vm.wanted.medium())
        code, told = status(vm, "--wait")
        assert (code, told.status, told.ready) == (2, "done", True)
        (trouble,) = told.troubles
        assert trouble.startswith("role properties: POST /machine?comp=roleProperties: HTTP status 400")
        assert "does not accept the SSH host key's fingerprint" in vm.scene.log()
        shown = vm.lab.run([str(AGENT), "status", "--long"]).stdout
        assert f"\nmissing: {trouble}\n" in shown
        assert vm.readies() == 1


def test_a_ready_that_the_host_refuses_leaves_the_vm_done_with_trouble() -> None:
    # The first two reports of health are those that provisioning starts, or Ready.
    with booted(faults=("health:status=400+1",)) as vm:
        vm.boot(vm.wanted.medium())
        code, told = status(vm, "--wait")
        assert (code, told.status, told.ready) == (2, "done", False)
        assert told.troubles[0].startswith("Ready: POST /machine?comp=health: HTTP status 400; Ready is reported again")


def test_a_failure_tells_the_element_what_was_changed_and_what_comes_next() -> None:
    with booted() as vm:
        wrong = vm.wanted.ovf().replace(b">azureuser<", b"><")
        vm.boot(make_medium(wrong, "udf"))
        code, told = status(vm, "--wait")
        assert (code, told.status, told.changed, told.next) == (1, "error", False, "the next start tries again")
        assert "UserName" in told.error
        assert vm.story() == f"failed: {told.error}"
        assert told.error in vm.wait_until_decided()
        head = " ".join(vm.ps_command().split())
        assert "provisioning: error; failed: " in head
        assert "nothing was changed; the next start tries again" in head


def test_what_others_do_is_disabled() -> None:
    with booted(config=QUICK + b"Provisioning.Enabled=n\n") as vm:
        vm.boot(None)
        code, told = status(vm, "--wait")
        assert (code, told.status, told.agent) == (0, "disabled", "nobody")
        assert "Provisioning.Enabled is n" in told.detail
