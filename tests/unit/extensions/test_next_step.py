# SPDX-License-Identifier: Apache-2.0
"""What is done with a handler, in which order, after which failures, and what a kill at any record changes: nothing."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from supervisor.extension_records import CommandEnded
from supervisor.extensions.next_step import Command, Wanted, next_step
from tests.unit.extensions.lives import HANDLER, OFF, ON, PLAIN, KilledError, Played, named

V2 = replace(ON, goal_state="g2", version="2.0.0.0", sequence_number=4)
BACK = replace(ON, goal_state="g3", sequence_number=5)
FRESH = ["place", "settings", "install 1.0.0.0", "enable 1.0.0.0"]
UPGRADE = [
    "place",
    "settings",
    "disable 1.0.0.0",
    "carry-over",
    "update 2.0.0.0",
    "uninstall 1.0.0.0",
    "remove",
    "install 2.0.0.0",
    "enable 2.0.0.0",
]


def one(name: str, goal_state: str = "g1", version: str = "1.0.0.0", *, enabled: bool = True) -> Wanted:
    """One extension of a handler that has several."""
    return Wanted(goal_state, "enable" if enabled else "disable-one", version, name, 1, is_multi_config=True)


def installed() -> Played:
    played = Played()
    played.play(ON)
    played.told.clear()
    return played


def test_a_fresh_one_is_installed_and_enabled_once() -> None:
    played = Played()
    assert played.play(replace(ON, version="")) == (0, "")
    assert played.told == FRESH
    assert (played.life.version, played.life.enabled) == ("1.0.0.0", ("",))
    assert played.play(replace(ON, version="")) == (0, "")
    assert played.told == FRESH


def test_a_new_goal_state_enables_the_same_version_again() -> None:
    played = installed()
    played.play(replace(ON, goal_state="g2", sequence_number=4))
    assert played.told == ["settings", "enable 1.0.0.0"]
    # However it is written.
    played.play(replace(ON, goal_state="g3", version="1.0"))
    assert played.told[2:] == ["settings", "enable 1.0.0.0"]


def test_after_a_reboot_what_is_installed_is_enabled_once_more_and_nothing_else() -> None:
    played = installed()
    played.boot = "boot-2"
    played.play(ON)
    assert played.told == ["settings", "enable 1.0.0.0"]
    played.play(ON)
    assert len(played.told) == 2


@pytest.mark.parametrize("verb", ["install", "enable"])
def test_a_failure_is_told_and_not_tried_again_before_the_next_goal_state(verb: str) -> None:
    played = Played()
    played.fails = {verb}
    code = {"install": 1007, "enable": 1009}[verb]
    for _ in range(2):
        assert played.play(ON) == (code, "it exits with 7")
    assert Counter(played.told)[f"{verb} 1.0.0.0"] == 1
    played.fails.clear()
    assert played.play(replace(ON, goal_state="g2")) == (0, "")
    assert played.told[len(FRESH) - (verb == "install") :] == (FRESH if verb == "install" else FRESH[1::2])


def test_an_upgrade_goes_through_all_its_steps() -> None:
    played = installed()
    assert played.play(V2) == (0, "")
    assert played.told == UPGRADE
    assert (played.life.version, played.life.enabled) == ("2.0.0.0", ("",))


def test_an_upgrade_without_install_and_of_one_that_was_disabled() -> None:
    played = Played({"2.0.0.0": replace(PLAIN, installs_after_update=False)})
    played.play(ON)
    played.play(replace(ON, goal_state="g1b", purpose="disable"))
    played.told.clear()
    played.play(V2)
    left = [step for step in UPGRADE if not step.startswith("disable")]
    assert played.told == ["installed" if step.startswith("install") else step for step in left]
    assert played.life.version == "2.0.0.0"


def test_a_downgrade_is_the_old_versions_own_work() -> None:
    played = Played()
    played.play(replace(V2, goal_state="g0"))
    played.told.clear()
    played.play(BACK)
    assert played.told[2:6] == ["disable 2.0.0.0", "carry-over", "update 2.0.0.0", "uninstall 2.0.0.0"]
    assert played.told[-2:] == ["install 1.0.0.0", "enable 1.0.0.0"]


@pytest.mark.parametrize("verb", ["disable", "uninstall"])
@pytest.mark.parametrize("goes_on", [True, False])
def test_the_old_versions_failure_stops_an_upgrade_unless_the_new_one_says_otherwise(verb: str, goes_on: bool) -> None:
    played = Played({"2.0.0.0": replace(PLAIN, continues_on_update_failure=goes_on)})
    played.play(ON)
    played.told.clear()
    played.fails = {verb}
    assert played.play(V2)[0] == (0 if goes_on else 1008)
    assert played.told == (UPGRADE if goes_on else UPGRADE[: UPGRADE.index(f"{verb} 1.0.0.0") + 1])
    assert played.life.version == ("2.0.0.0" if goes_on else "1.0.0.0")


def test_a_failed_update_is_noted_and_the_next_goal_state_begins_with_the_package() -> None:
    played = installed()
    played.fails = {"update"}
    assert played.play(V2)[0] == 1008
    assert (played.life.version, played.life.enabled, played.life.failed_upgrade) == ("1.0.0.0", (), "2.0.0.0")
    played.fails.clear()
    played.told.clear()
    assert played.play(replace(V2, goal_state="g3")) == (0, "")
    assert played.told == [step for step in UPGRADE if not step.startswith("disable")]
    assert played.life.failed_upgrade == ""


@pytest.mark.parametrize("fails", [set(), {"uninstall"}, {"disable"}, {"disable", "uninstall"}])
def test_an_uninstall_removes_whatever_its_command_says(fails: set[str]) -> None:
    played = installed()
    played.fails = fails
    assert played.play(replace(OFF, goal_state="g2")) == (0, "")
    assert played.told == ["disable 1.0.0.0", "uninstall 1.0.0.0", "remove"]
    assert (played.life.version, played.life.enabled) == ("", ())
    assert played.play(replace(OFF, goal_state="g3")) == (0, "")
    assert len(played.told) == 3
    # And then it is fresh again.
    played.told.clear()
    played.play(replace(ON, goal_state="g4"))
    assert played.told == FRESH


def test_several_extensions_share_one_installation() -> None:
    played = Played()
    for name in ("one", "two"):
        played.play(one(name))
    assert Counter(played.told)["install 1.0.0.0 one"] == 1
    assert played.told[-1] == "enable 1.0.0.0 two"
    assert played.life.enabled == ("one", "two")
    played.told.clear()
    played.fails = {"disable"}
    assert played.play(one("one", "g2", enabled=False)) == (0, "")
    assert played.told == ["disable 1.0.0.0 one", "drop"]
    assert list(played.life.enabled) == ["two"]
    played.fails.clear()
    played.told.clear()
    for name in ("two", "three"):
        played.play(one(name, "g3", "1.1.0.0"))
    assert [step for step in played.told if step.startswith(("disable", "enable"))] == [
        "disable 1.0.0.0 two",
        "enable 1.1.0.0 two",
        "enable 1.1.0.0 three",
    ]


def test_what_fails_for_one_extension_is_not_tried_for_each() -> None:
    played = Played()
    played.fails = {"install"}
    assert [played.play(one(name))[0] for name in ("one", "two")] == [1007, 1007]
    assert played.told == ["place", "settings", "install 1.0.0.0 one"]
    # A failure of one extension's own is its own.
    played.fails = {"enable 1.0.0.0 one"}
    assert [played.play(one(name, "g2"))[0] for name in ("one", "two")] == [1009, 0]


def test_a_newer_goal_state_waits_for_the_command_that_runs_and_begins_nothing_more_of_the_old() -> None:
    played = installed()
    played.killed_before = lambda record: getattr(record, "number", 0) == 4  # the update's end
    with pytest.raises(KilledError):
        played.play(V2)
    played.killed_before = lambda _: False
    played.told.clear()
    waits = next_step(BACK, played.life, played.boot, played.manifests())
    assert isinstance(waits, Command)
    assert waits.run is not None
    assert named(waits) == "update 2.0.0.0"
    assert played.play(BACK) == (0, "")
    assert played.told == ["settings", "enable 1.0.0.0"]


@pytest.mark.parametrize(("verb", "then"), [("install", (1007, "its end is not known")), ("enable", (0, ""))])
def test_what_ran_while_the_machine_went_down_is_lost_and_only_an_enable_goes_on(
    verb: str, then: tuple[int, str]
) -> None:
    played = Played()
    played.killed_before = lambda record: isinstance(record, CommandEnded) and played.told[-1].startswith(verb)
    with pytest.raises(KilledError):
        played.play(ON)
    played.killed_before = lambda _: False
    played.boot = "boot-2"
    assert played.play(ON) == then
    assert Counter(played.told)[f"{verb} 1.0.0.0"] == (2 if verb == "enable" else 1)


def lives() -> list[list[Wanted]]:
    """Goal states one after the other that use every kind of step."""
    whole = [ON, V2, replace(BACK, goal_state="g3"), replace(OFF, goal_state="g4"), replace(ON, goal_state="g5")]
    several = [one("one"), one("two"), one("one", "g2", "1.1.0.0"), one("two", "g2", "1.1.0.0")]
    return [whole, [*several, one("one", "g3", "", enabled=False), replace(OFF, goal_state="g4")]]


@pytest.mark.parametrize("goal_states", lives())
@pytest.mark.parametrize("fails", [set(), {"install"}, {"disable"}, {"update"}, {"enable"}, {"uninstall"}])
def test_a_process_killed_at_any_record_changes_nothing_but_what_leaves_no_record(
    goal_states: list[Wanted], fails: set[str]
) -> None:
    def commands(kill_at: int) -> tuple[list[str], list[tuple[int, str]], object]:
        played = Played()
        played.fails = fails
        count = 0

        def counts(_: object) -> bool:
            nonlocal count
            count += 1
            return count == kill_at

        played.killed_before = counts
        ends = []
        for wanted in goal_states:
            try:
                ends.append(played.play(wanted))
            except KilledError:
                ends.append(played.play(wanted))
        played.told = [step for step in played.told if " " in step]
        killed = count >= kill_at
        return played.told if killed else [], ends, played.life.version

    undisturbed, ends, version = commands(0)
    for kill_at in range(1, 200):
        told, killed_ends, killed_version = commands(kill_at)
        if not told:
            break
        assert (told, killed_ends, killed_version) == (undisturbed or told, ends, version), kill_at
    assert kill_at > 10


@given(st.lists(st.sampled_from([ON, V2, BACK, OFF, one("one"), one("two")]), max_size=6), st.integers(0, 60))
def test_whatever_follows_on_what_it_comes_to_an_end_and_no_number_is_given_twice(
    orders: list[Wanted], kill_at: int
) -> None:
    played = Played()
    count = 0

    def counts(_: object) -> bool:
        nonlocal count
        count += 1
        return count == kill_at

    played.killed_before = counts
    for number, wanted in enumerate(orders):
        try:
            played.play(replace(wanted, goal_state=f"g{number}"))
        except KilledError:
            continue  # and another goal state is there when it starts again
    runs = [run.number for run in (played.life.undertaking.runs if played.life.undertaking else ())]
    assert len(runs) == len(set(runs))
    assert played.known.last_number == sum(" " in step for step in played.told)
    assert HANDLER in played.known.handlers or not orders or kill_at == 1
