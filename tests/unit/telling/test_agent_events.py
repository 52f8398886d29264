# SPDX-License-Identifier: Apache-2.0
"""What the agent tells of itself, how often, and what its meters show."""

from pathlib import Path

import msgspec

from supervisor.compatibility import OWN_NAME
from supervisor.jail.hierarchies import Hierarchy
from supervisor.loop import Loop
from supervisor.telemetry.agent_events import HEARTBEAT_TICKS, MEMORY_TICKS, TICK_S, AgentEvents, Errors, Watched
from supervisor.telemetry.events import AgentEvent, Counter
from supervisor.telemetry.meters import Meters
from supervisor.telemetry.spool import Spool
from supervisor.telemetry.telemetry import Telemetry
from supervisor.telemetry.transitions import Transitions
from tests.unit.supervisor.turned import HandClock
from tests.unit.telling.facts import adopted


class Vm:
    """The agent's events, in the test's hand."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.loop = Loop(self.clock)
        self.spool = Spool(str(folder / "spool"), lambda *_: None)
        self.telemetry = Telemetry(self.loop, self.spool, None, str)
        self.restarts: dict[str, int] = {"parser": 0}
        self.errors = Errors()
        self.provisioned: tuple[bool | None, str] = (None, "")
        watched = Watched(lambda: self.restarts, lambda: self.errors, lambda: self.provisioned)
        transitions = Transitions(str(folder / "transitions"))
        meters = Meters(self.clock, ())
        self.events = AgentEvents(self.loop, self.telemetry, transitions, meters, watched)

    def told(self) -> list[tuple[str, bool, str]]:
        """What was noted since the last time: operation, success, message; a counter by its name."""
        self.telemetry.flush()
        found = [event for number in self.spool.files for event in self.spool.read(number)]
        self.spool.empty()
        return [
            (event.operation, event.succeeded, event.message)
            if isinstance(event, AgentEvent)
            else (event.counter, True, "")
            for event in found
            if isinstance(event, AgentEvent | Counter)
        ]


def test_a_life_begins_with_who_we_are_and_how_provisioning_went_and_that_once(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    vm.provisioned = (True, "done")
    vm.loop.start("events", vm.events.run())
    vm.loop.call_later(0, lambda: None)
    vm.loop.turn()
    start, heartbeat, provision = vm.told()
    assert (start, provision) == (("Start", True, OWN_NAME), ("Provision", True, "done"))
    assert heartbeat[:2] == ("HeartBeat", True)
    assert [len(part) for part in heartbeat[2].split(";")] == [1, 32, 1, 1, 10]
    for _ in range(3):
        vm.clock.now += TICK_S
        vm.loop.turn()
    assert vm.told() == []  # no meters here, nothing happened


def test_restarts_and_errors_are_told_where_there_are_any(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    vm.restarts = {"parser": 2}
    vm.errors = Errors(host_plugin=3)
    vm.events.tick()
    vm.events.tick()
    assert vm.told() == [("WorkerRestart", False, "parser: replaced 2 times in 5 min")]
    for _ in range(HEARTBEAT_TICKS - 2):
        vm.events.tick()
    beat, errors = vm.told()
    assert (beat[0], beat[2][0]) == ("HeartBeat", "1")
    assert errors == ("HttpErrors", True, "host plugin 3, protocol 0, other 0")
    for _ in range(MEMORY_TICKS - HEARTBEAT_TICKS):
        vm.events.tick()
    assert [name for name, _, _ in vm.told()] == ["HeartBeat", "Used Memory", "Available Memory"]


def test_a_goal_state_is_told_once_when_it_has_ended_and_a_state_when_it_changes(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    for goal_state in (adopted(outcome=None), adopted(), adopted(), adopted(id="incarnation_4")):
        vm.events.adopted(goal_state)
    for succeeded in (True, True, False, False, True):
        vm.events.went("ReportStatus", succeeded, "")
    assert [(name, went) for name, went, _ in vm.told()] == [
        ("GoalState", True),
        ("GoalState", True),
        ("ReportStatus", True),
        ("ReportStatus", False),
        ("ReportStatus", True),
    ]


def test_a_meter_shows_the_whole_agents_share_by_either_version(tmp_path: Path) -> None:
    for version, memory, time, used in (
        (1, "memory.usage_in_bytes", "cpuacct.usage", "{}000"),
        (2, "memory.current", "cpu.stat", "usage_usec {}\nuser_usec 1\n"),
    ):
        group = tmp_path / f"v{version}" / "agent"
        group.mkdir(parents=True)
        (group / memory).write_text("12345\n")
        (group / time).write_text(used.format(1_000_000))
        clock = HandClock()
        meters = Meters(clock, (Hierarchy(version, frozenset({"memory", "cpuacct"}), str(group)),))
        clock.now += 100.0
        (group / time).write_text(used.format(1_500_000))
        assert msgspec.to_builtins(meters.read()) == {"processor_percent": 0.5, "memory_bytes": 12345}
    assert msgspec.to_builtins(Meters(HandClock(), ()).read()) == {"processor_percent": None, "memory_bytes": None}
