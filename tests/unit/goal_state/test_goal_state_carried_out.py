# SPDX-License-Identifier: Apache-2.0
"""What is written down of a goal state, what comes of it, and what the next process makes of a record cut short."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from ipc.errors import StateError
from ipc.messages import ExtensionSettings, Plugin
from supervisor import config, options
from supervisor.config import parse
from supervisor.goal_state.adopted import NOT_RUN, OK, UNSUPPORTED_FEATURES, UNUSABLE, Adopted
from supervisor.goal_state.carrying_out import CarryingOut
from supervisor.goal_state.complaints import AGAIN_S, Complaints
from supervisor.goal_state.pacing import HURRY_S, PERIOD_WHEN_OFF_S, Pacing
from supervisor.journal import Journal, UnusableJournal
from supervisor.loop import Loop
from supervisor.records import GoalStateBegun, GoalStateEnded
from tests.unit.goal_state.test_goal_state_choice import NEW, OLD, wire
from tests.unit.supervisor.turned import HandClock, turn_until

if TYPE_CHECKING:
    from supervisor.audit_log_entry import Entry

EXTENSION = ExtensionSettings("", 4, "enabled", 0, "")
GOOD = Plugin("Good", "1.0", "enabled", False, (), False, (EXTENSION,))
BROKEN = Plugin("Broken", "1.0", "enabled", False, (), False, (), "it has two settings")
SEVERAL = Plugin(
    "Several",
    "2.0",
    "enabled",
    False,
    (),
    True,
    (replace(EXTENSION, name="one"), replace(EXTENSION, name="two", problem="its settings are no JSON")),
)


class Agent:
    """One life of the supervisor, as far as goal states are concerned."""

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.journal = Journal(folder / "journal")
        self.entries: list[Entry] = []
        self.out = CarryingOut(self.journal, HandClock(), self.entries.append, extensions_enabled=enabled)

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(entry.request, entry.decision) for entry in self.entries]


@contextmanager
def living(folder: Path, *, enabled: bool = True) -> Iterator[Agent]:
    agent = Agent(folder, enabled=enabled)
    yield agent
    agent.journal.close()


def with_plugins(*plugins: Plugin, **changes: object) -> Adopted:
    one = wire(OLD)
    return replace(one, goal_state=replace(one.goal_state, plugins=plugins, **changes))


def test_each_handler_is_told_of_and_a_broken_one_spoils_no_other(tmp_path: Path) -> None:
    with living(tmp_path) as agent:
        done = agent.out.carry_out(with_plugins(GOOD, BROKEN, SEVERAL), ())
    assert done.outcome is not None
    assert (done.outcome.code, done.outcome.message) == (OK, "")
    assert [(each.name, each.extension, each.code, each.sequence_number, each.status) for each in done.handlers] == [
        ("Good", "", NOT_RUN, 4, "NotReady"),
        ("Broken", "", UNUSABLE, None, "NotReady"),
        ("Several", "one", NOT_RUN, 4, "NotReady"),
        ("Several", "two", UNUSABLE, 4, "NotReady"),
    ]
    assert done.handlers[1].message == "not carried out: it has two settings"
    assert agent.told == [("incarnation_1", "intended"), ("incarnation_1", "done")]


def test_none_is_carried_out_twice_and_one_cut_short_is_finished(tmp_path: Path) -> None:
    with living(tmp_path) as agent:
        agent.journal.append(GoalStateBegun("incarnation_1", OLD))  # and killed
    with living(tmp_path) as agent:
        assert not agent.out.was_ended(wire(OLD))
        first = agent.out.carry_out(wire(OLD), ())
        assert "finished now" in agent.entries[0].detail
        size = agent.journal.size_bytes
        assert agent.out.carry_out(wire(OLD), ()) == first
        assert agent.journal.size_bytes == size
    with living(tmp_path) as agent:
        assert agent.out.carry_out(wire(OLD), ()) == first
        assert agent.entries == []
        # The same number, from another time: the host counts from 1 again.
        assert agent.out.carry_out(wire(NEW), ()).outcome is not None
        assert agent.told == [("incarnation_1", "intended"), ("incarnation_1", "done")]


def test_one_that_was_begun_is_superseded_on_record(tmp_path: Path) -> None:
    with living(tmp_path) as agent:
        agent.journal.append(GoalStateBegun("incarnation_1", OLD))
    with living(tmp_path) as agent:
        agent.out.carry_out(wire(NEW, 2), ())
        assert "incarnation_1, which had begun, is superseded" in agent.entries[0].detail
        agent.journal.compact()
        run = agent.journal.state.goal_state
    assert run is not None
    assert (run.id, run.ended) == ("incarnation_2", True)
    with living(tmp_path) as agent:
        assert agent.journal.state.goal_state == run
        with pytest.raises(StateError, match="never begun"):
            agent.journal.append(GoalStateEnded("incarnation_1", 0, "", 0.0))


def test_features_that_are_not_there_are_refused_for_good(tmp_path: Path) -> None:
    demanding = with_plugins(GOOD, required_features=("FastTrack", "Unheard"))
    for life in range(2):
        with living(tmp_path) as agent:
            refused = agent.out.carry_out(demanding, ("FastTrack",))
            assert refused.outcome is not None
            assert (refused.outcome.code, refused.handlers) == (UNSUPPORTED_FEATURES, ())
            assert "Unheard" in refused.outcome.message
            assert "FastTrack" not in refused.outcome.message
            assert bool(agent.told) is (life == 0)


def test_what_is_off_on_hold_or_outdated_is_told_so(tmp_path: Path) -> None:
    with living(tmp_path) as agent:
        held = agent.out.carry_out(replace(with_plugins(GOOD), is_on_hold=True), ())
        assert "on hold" in held.handlers[0].message
        outdated = agent.out.carry_out(replace(with_plugins(GOOD), is_outdated=True, id="incarnation_9"), ())
        assert "older" in outdated.handlers[0].message
        assert outdated.outcome is None
        assert agent.journal.state.goal_state is not None
        assert agent.journal.state.goal_state.id == "incarnation_1"
    with living(tmp_path, enabled=False) as agent:
        off = agent.out.carry_out(with_plugins(GOOD), ())
        assert "Extensions.Enabled is n" in off.handlers[0].message


def test_without_a_journal_nothing_is_carried_out(tmp_path: Path) -> None:
    out = CarryingOut(
        UnusableJournal(tmp_path / "journal", "no room"), HandClock(), lambda _: None, extensions_enabled=True
    )
    with pytest.raises(StateError, match="no room"):
        out.carry_out(wire(OLD), ())


def test_the_same_trouble_is_told_three_times_and_then_every_six_hours() -> None:
    clock = HandClock()
    complaints = Complaints(clock)
    told = [(complaints.note("no route"), complaints.again) for _ in range(5)]
    assert told == [(True, ""), (True, ""), *[(each, "; said again in 6 h") for each in (True, False, False)]]
    clock.now += AGAIN_S
    assert [complaints.note("no route") for _ in range(2)] == [True, False]
    assert (complaints.text, complaints.in_a_row) == ("no route", 7)
    assert complaints.end()
    assert not complaints.end()
    assert (complaints.text, complaints.in_a_row) == ("", 0)
    assert complaints.note("no route")


def test_the_first_goal_state_is_asked_for_every_second_and_one_that_is_wanted_at_once() -> None:
    clock = HandClock()
    loop = Loop(clock)
    awaits_first = True
    pacing = Pacing(loop, parse("Extensions.GoalStatePeriod=6\n").config, lambda: awaits_first)
    rests: list[float] = []

    async def rest() -> None:
        began = clock.now
        pacing.begin()
        await pacing.rest()
        rests.append(clock.now - began)

    def pass_time(until: int) -> None:
        loop.start("rest", rest(), detached=True)
        turn_until(loop, lambda: len(rests) == until or _tick(clock))

    pass_time(1)
    awaits_first = False
    pass_time(2)
    assert [round(each) for each in rests] == [1, 6]
    loop.start("wanted", pacing.next_poll(), detached=True, at_once=True)
    loop.start("rest", _rest_at_once(pacing, rests), detached=True)
    turn_until(loop, lambda: len(rests) == 3)
    assert rests[-1] == -1.0
    off = Pacing(loop, parse("Extensions.Enabled=n\n").config, lambda: False)
    assert off.period_s == PERIOD_WHEN_OFF_S
    assert config.parse("").config[options.INITIAL_GOAL_STATE_PERIOD] == 1


def test_a_first_goal_state_that_never_comes_is_asked_for_every_second_for_five_minutes() -> None:
    """From the first poll on, however long that was waited for."""
    clock = HandClock()
    pacing = Pacing(Loop(clock), parse("Extensions.GoalStatePeriod=6\n").config, lambda: True)
    clock.now += 2 * HURRY_S
    pacing.begin()
    periods = [pacing.period_s]
    for _ in range(2):
        clock.now += HURRY_S / 2
        pacing.begin()
        periods.append(pacing.period_s)
    assert (HURRY_S, periods) == (300, [1, 1, 6])


async def _rest_at_once(pacing: Pacing, rests: list[float]) -> None:
    await pacing.rest()
    rests.append(-1.0)


def _tick(clock: HandClock) -> bool:
    clock.now += 0.5
    return False
