# SPDX-License-Identifier: Apache-2.0
"""Each command of a handler once and none forgotten, whenever the supervisor is killed; the judge is the handler."""

from collections.abc import Iterator

import pytest

from supervisor.extension_records import Life
from supervisor.journal import Replayed, replay
from supervisor.layout import Layout
from tests.fabric.handler_packages import Package
from tests.fabric.handlers_vm import HandlersVm, Wish, handlers_vm
from tests.fabric.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAME, OTHER = "Test.Once", "Test.Other"
SLOW = {"*": ["sleep=0.2"]}
GO = "/run/once-go"
# Of the upgrade, as the journal has it: what was just written down when the supervisor is killed. Both handlers are in
# the midst of it.
MOMENTS = {
    3: "the first disable is on its way",
    9: "an update has ended",
    17: "an old version is gone",
    23: "an enable",
}


@pytest.fixture(scope="module")
def vm() -> Iterator[HandlersVm]:
    """One for all tests."""
    with handlers_vm() as made:
        yield made


def journal(vm: HandlersVm) -> Replayed:
    return replay(vm.lab.path(Layout().journal).read_bytes())


def life(vm: HandlersVm, handler: str) -> Life:
    return journal(vm).state.extensions.of(handler)


def carried_out(vm: HandlersVm, *wishes: Wish) -> None:
    assert vm.until_ended(vm.publish(*wishes)) == ("Success", 0)


def wish(name: str, version: str, sequence: int, *does: str) -> Wish:
    return Wish(
        Package(name, version, does={**SLOW, **({"enable": does} if does else {})}),
        settings=({"sequence": sequence, "public": {}},),
    )


def test_killed_at_any_moment_of_an_upgrade_each_command_is_run_once(vm: HandlersVm) -> None:
    carried_out(vm, *(wish(name, "1.0.0.0", 0) for name in (NAME, OTHER)))
    before = journal(vm).records
    sequence = vm.publish(*(wish(name, "2.0.0.0", 1) for name in (NAME, OTHER)))
    for records, what in MOMENTS.items():
        until(what, lambda records=records: journal(vm).records >= before + records, 30, every_s=0.0005)  # type: ignore[misc]
        vm.kill(vm.supervisor())
        until("an agent that answers", vm.ps, 20)
    assert vm.until_ended(sequence) == ("Success", 0)
    for name in (NAME, OTHER):
        assert vm.verbs(name) == [
            "install 1.0.0.0 0",
            "enable 1.0.0.0 0",
            "disable 1.0.0.0 0",
            "update 2.0.0.0 1",
            "uninstall 1.0.0.0 1",
            "install 2.0.0.0 1",
            "enable 2.0.0.0 1",
        ]
        # One after the other, each to its end.
        ends = vm.judge(f"{name}.ended")
        assert len(ends) == len(vm.judge(name))
        assert all(end["at"] < then["at"] for end, then in zip(ends, vm.judge(name)[1:], strict=False))
        assert (life(vm, name).version, life(vm, name).undertaking) == ("2.0.0.0", None)
        until("Ready", lambda name=name: vm.handler_status(name)["status"] == "Ready")  # type: ignore[misc]
    assert journal(vm).state.extensions.last_number == 14


def test_what_a_newer_goal_state_finds_running_it_waits_for_and_begins_nothing_more_of_the_old(vm: HandlersVm) -> None:
    held = Wish(Package(NAME, "3.0.0.0", does={"update": [f"wait={GO}"]}), settings=({"sequence": 2, "public": {}},))
    vm.publish(held)
    until("an update under way", lambda: "update 3.0.0.0 2" in vm.verbs(NAME), 30)
    sequence = vm.publish(wish(NAME, "2.0.0.0", 3))
    until("it has come", lambda: (run := journal(vm).state.goal_state) and run.id.endswith(f"_{sequence}"), 20)
    vm.kill(vm.supervisor())
    until("an agent that answers", vm.ps, 20)
    assert life(vm, NAME).version == "2.0.0.0"
    vm.lab.output("touch", GO)
    assert vm.until_ended(sequence) == ("Success", 0)
    assert vm.verbs(NAME)[7:] == ["disable 2.0.0.0 1", "update 3.0.0.0 2", "enable 2.0.0.0 3"]
    # Of one that no goal state names the folders go, and of an upgrade that came to nothing; without a command.
    until("the others gone", lambda: set(folders(vm)) == {f"{NAME}-2.0.0.0"}, 20)
    assert len(vm.verbs(OTHER)) == 7


def test_a_command_whose_end_nobody_knows_is_reported_and_not_run_again(vm: HandlersVm) -> None:
    vm.lab.output("rm", "-f", GO)
    sequence = vm.publish(wish(NAME, "2.0.0.0", 4, f"wait={GO}"))
    until("an enable under way", lambda: "enable 2.0.0.0 4" in vm.verbs(NAME), 30)
    unit = f"agent-supervisor-handler-{journal(vm).state.extensions.last_number}.service"
    vm.lab.output("systemctl", "kill", "--signal=KILL", "--kill-whom=main", unit)
    assert vm.until_ended(sequence) == ("Success", 0)
    told = vm.handler_status(NAME)
    assert (told["status"], told["code"]) == ("NotReady", 1009)
    assert "lost" in told["formattedMessage"]["message"]
    vm.kill(vm.supervisor())
    until("an agent that answers", vm.ps, 20)
    # The next goal state wants it anew, and has it.
    carried_out(vm, wish(NAME, "2.0.0.0", 5))
    assert vm.verbs(NAME)[10:] == ["enable 2.0.0.0 4", "enable 2.0.0.0 5"]
    until("Ready", lambda: vm.handler_status(NAME)["status"] == "Ready")


def folders(vm: HandlersVm) -> list[str]:
    listed = vm.lab.run(["sh", "-c", "ls -d /var/lib/waagent/Test.*"]).stdout.split()
    return [path.rpartition("/")[2] for path in listed]
