# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: side by side, after those that it depends on, not at all; and what a newer goal state changes."""

import gc
import json
from pathlib import Path
from types import CoroutineType

import pytest
from msgspec.structs import replace

from ipc.messages import ExtensionSettings
from ipc.messages.extension_rules import ExtensionRule
from supervisor.extensions.commands import Result
from supervisor.extensions.patience import AFTER_BOOT_S, DEADLINE_S, Patience
from supervisor.journal import Journal
from tests.unit.extensions.lives import PLAIN
from tests.unit.extensions.machine import WELL, Boot, Machine, goal_state, plugin
from tests.unit.supervisor.turned import HandClock


def failed(verb_code: int) -> Result:
    return replace(WELL, code=verb_code, exit_code=7, output="[stderr]\nno")


def test_a_stuck_one_delays_nobody_but_the_goal_states_end(boot: Boot) -> None:
    machine = boot()
    machine.workers.hold = lambda name: "A.Stuck" in name and name.startswith("enable")
    machine.take(goal_state(1, plugin("A.Stuck"), plugin("B.Quick")))
    machine.until(lambda: machine.brief().get("B.Quick") == ("Ready", 0))
    assert machine.brief()["A.Stuck"] == ("Installing", 0)
    assert machine.ended == []
    machine.until(lambda: machine.workers.held)
    machine.workers.held["enable A.Stuck 1.0.0.0 1"].fulfil(WELL)
    machine.until(lambda: machine.ended)
    assert machine.brief() == {"A.Stuck": ("Ready", 0), "B.Quick": ("Ready", 0)}


def test_a_later_level_waits_for_the_success_that_the_one_before_it_tells(boot: Boot) -> None:
    machine = boot()
    machine.workers.said = {"A.First": "transitioning", "B.Second": "success"}
    machine.take(goal_state(1, plugin("B.Second", level=2), plugin("A.First", level=1)))
    machine.until(lambda: machine.brief().get("A.First") == ("Ready", 0))
    before = machine.clock.now
    machine.until(lambda: machine.clock.now > before + 60)
    assert machine.workers.ran == ["install A.First 1.0.0.0 1", "enable A.First 1.0.0.0 1"]
    machine.workers.said["A.First"] = "success"
    machine.until(lambda: machine.ended)
    assert machine.workers.ran[2:] == ["install B.Second 1.0.0.0 1", "enable B.Second 1.0.0.0 1"]


@pytest.mark.parametrize("how", ["its command", "its status", "its time"])
def test_what_depends_on_one_that_failed_is_skipped_and_told_so(boot: Boot, how: str) -> None:
    machine = boot()
    machine.workers.said = {"A.First": "error" if how == "its status" else "transitioning"}
    if how == "its command":
        machine.workers.results["enable A.First"] = failed(1009)
    machine.take(goal_state(1, plugin("A.First", level=1), plugin("B.Second", level=2)))
    if how == "its time":
        machine.until(lambda: machine.brief().get("A.First") == ("Ready", 0))
        machine.clock.now += 90 * 60
    machine.until(lambda: machine.ended)
    told = machine.told()["B.Second"]
    assert (told.status, told.code) == ("NotReady", -1)
    assert "A.First, which comes before it" in told.message
    assert not [name for name in machine.workers.ran if "B.Second" in name]


def test_a_restart_of_the_agent_does_not_prolong_the_wait_for_others(boot: Boot) -> None:
    wanted = goal_state(1, plugin("A.First", level=1), plugin("B.Second", level=2))

    def life(later_s: float) -> Machine:
        machine = boot()
        machine.clock.now += later_s
        machine.workers.said = {"A.First": "transitioning"}
        machine.take(wanted)
        machine.until(lambda: machine.brief().get("A.First") == ("Ready", 0))
        return machine

    life(0)
    machine = life(80 * 60)
    machine.clock.now = 1000.0 + DEADLINE_S - 10
    machine.until(lambda: machine.clock.now > 1000.0 + DEADLINE_S - 5)
    assert machine.ended == []
    machine.until(lambda: machine.ended)
    assert machine.clock.now < 1000.0 + DEADLINE_S + 5
    assert "has not told of its success in 90 min" in machine.told()["B.Second"].message


class TwoClocks(HandClock):
    """The wall's is so much ahead."""

    ahead = 0.0

    def wall(self) -> float:
        return self.now + self.ahead


def test_a_reboot_prolongs_the_wait_a_little_whatever_the_wall_clock_says(tmp_path: Path) -> None:
    journal, clock, said = Journal(tmp_path / "journal"), TwoClocks(), list[str]()

    def left_s(boot_id: str, now: float, wall: float, of: str = "g1") -> float:
        clock.now, clock.ahead = now, wall - now
        return Patience(journal, clock, boot_id, said.append).ends(of) - now

    assert left_s("b1", 1000, 1e9) == DEADLINE_S
    assert left_s("b1", 1600, 9e9) == DEADLINE_S - 600, "within a boot the wall clock counts for nothing"
    assert left_s("b2", 30, 1e9 + 1800) == DEADLINE_S - 1800
    journal.compact()
    journal.close()
    journal = Journal(tmp_path / "journal")
    assert left_s("b2", 90, 0) == DEADLINE_S - 1860
    assert left_s("b3", 10, 9e9) == AFTER_BOOT_S
    assert left_s("b4", 10, 0) == AFTER_BOOT_S
    assert left_s("b4", 10, 0, of="g2") == DEADLINE_S
    journal.close()
    assert said == []
    assert left_s("b4", 10, 0, of="g3") == DEADLINE_S
    assert "begins anew with the next start of the agent" in said[0]


def test_of_the_goal_states_that_wait_for_a_command_only_the_newest_is_kept(boot: Boot) -> None:
    machine = boot()
    machine.workers.hold = lambda name: name.startswith("install")
    machine.workers.manifest = replace(PLAIN, supports_multiple_extensions=True)
    pair = tuple(ExtensionSettings(name, 1, "enabled", 0, "") for name in ("e1", "e2"))
    several = replace(plugin("A.Run"), is_multi_config=True, settings=pair)
    machine.take(goal_state(1, plugin("A.One"), several))
    machine.until(lambda: len(machine.workers.held) == 2)
    for number in range(2, 40):
        machine.take(goal_state(number, plugin("A.One", sequence=number), several))
        machine.pass_time(3)
    gc.collect()
    waiting = [each for each in gc.get_objects() if isinstance(each, CoroutineType) and "Turns.alone" in repr(each)]
    # Of each handler who has the turn, and who is next.
    assert len(waiting) == 4
    machine.workers.hold = lambda _: False
    for held in machine.workers.held.values():
        held.fulfil(WELL)
    machine.until(lambda: machine.ended)
    assert machine.ended == ["incarnation_39"]
    assert [name for name in machine.workers.ran if "A.One" in name] == [
        "install A.One 1.0.0.0 1",
        "enable A.One 1.0.0.0 39",
    ]
    assert machine.life("A.Run").enabled == ("e1", "e2")


def test_one_of_several_that_came_to_nothing_has_a_status_file_unless_it_has_written_one(boot: Boot) -> None:
    machine = boot()
    machine.workers.manifest = replace(PLAIN, supports_multiple_extensions=True)
    levels = {"e1": 0, "e2": 1, "e3": 2}
    settings = tuple(ExtensionSettings(name, 7, "enabled", level, "") for name, level in levels.items())
    several = replace(plugin("A.Run"), is_multi_config=True, settings=settings)
    machine.carry_out(goal_state(1, replace(several, settings=settings[:1])))
    folder = machine.lib / "A.Run-1.0.0.0" / "status"
    (folder / "e3.7.status").write_text("its own")
    machine.workers.results["enable A.Run"] = failed(1009)
    machine.carry_out(goal_state(2, several, plugin("B.Single", level=3)))
    assert sorted(path.name for path in folder.iterdir()) == ["e1.7.status", "e2.7.status", "e3.7.status"]
    assert (folder / "e3.7.status").read_text() == "its own"
    told = {name: json.loads((folder / f"{name}.7.status").read_bytes())[0]["status"] for name in ("e1", "e2")}
    assert [(each["name"], each["status"], each["code"]) for each in told.values()] == [
        ("A.Run.e1", "error", 1009),
        ("A.Run.e2", "error", -1),
    ]
    assert "exits with 7" in told["e1"]["formattedMessage"]["message"]
    assert not (machine.lib / "B.Single-1.0.0.0").exists()


def test_a_newer_goal_state_waits_for_what_runs_and_begins_nothing_more_of_the_old(boot: Boot) -> None:
    machine = boot()
    machine.workers.hold = lambda name: name.startswith("install")
    machine.take(goal_state(1, plugin("A.One"), plugin("B.Two", level=1)))
    machine.until(lambda: machine.workers.held)
    machine.take(goal_state(2, plugin("A.One", sequence=2)))
    before = machine.clock.now
    machine.until(lambda: machine.clock.now > before + 30)
    assert machine.workers.ran == ["install A.One 1.0.0.0 1"]
    machine.workers.held["install A.One 1.0.0.0 1"].fulfil(WELL)
    machine.until(lambda: machine.ended)
    assert machine.ended == ["incarnation_2"]
    assert machine.workers.ran == ["install A.One 1.0.0.0 1", "enable A.One 1.0.0.0 2"]


def test_what_can_not_be_fetched_is_tried_again_and_the_goal_state_ends_meanwhile(boot: Boot) -> None:
    machine = boot()
    machine.workers.broken = {"A.Broken"}
    machine.carry_out(goal_state(1, plugin("A.Broken"), plugin("B.Good")))
    assert machine.brief() == {"A.Broken": ("NotReady", -1), "B.Good": ("Ready", 0)}
    machine.until(lambda: machine.workers.fetched >= 5)
    assert len([text for text in machine.log if "A.Broken" in text]) == 1
    machine.workers.broken.clear()
    machine.until(lambda: machine.brief()["A.Broken"] == ("Ready", 0))
    assert machine.ended == ["incarnation_1"]
    assert machine.workers.ran.count("enable B.Good 1.0.0.0 1") == 1


def test_a_restart_runs_nothing_again_and_tells_the_same(boot: Boot) -> None:
    machine = boot()
    machine.workers.results["enable B.Bad"] = failed(1009)
    wanted = goal_state(1, plugin("A.Good"), plugin("B.Bad"))
    machine.carry_out(wanted)
    before = machine.told()
    machine = boot()
    machine.extensions.take(wanted, has_ended=True)
    assert machine.told() == before, "at once, and not only when all have had their turns"
    machine.until(lambda: machine.clock.now > 1060)
    assert (machine.workers.ran, machine.told(), machine.ended) == ([], before, [])
    machine = boot(boot="boot-2")
    machine.extensions.take(wanted, has_ended=True)
    machine.until(lambda: machine.brief() == {"A.Good": ("Ready", 0), "B.Bad": ("Ready", 0)})
    assert machine.workers.ran == ["enable A.Good 1.0.0.0 1", "enable B.Bad 1.0.0.0 1"]


def test_what_ran_when_the_machine_went_down_is_never_ordered_again(boot: Boot) -> None:
    machine = boot()
    machine.workers.hold = lambda name: name.startswith("install")
    wanted = goal_state(1, plugin("A.One"))
    machine.take(wanted)
    machine.until(lambda: machine.workers.held)
    machine = boot(boot="boot-2")
    machine.carry_out(wanted)
    assert machine.workers.ran == []
    assert machine.brief() == {"A.One": ("NotReady", 1007)}
    assert "lost" in machine.told()["A.One"].message


def test_a_refused_one_is_told_by_its_rule_and_others_go_on(boot: Boot) -> None:
    rule = ExtensionRule("A.*", "a test wants none of them", allowed=False, file="50-test.toml")
    machine = boot(rules=(rule,))
    machine.carry_out(goal_state(1, plugin("A.One"), plugin("A.Two", state="uninstall"), plugin("B.Good")))
    assert machine.brief() == {"A.One": ("NotReady", 1009), "A.Two": ("NotReady", 1010), "B.Good": ("Ready", 0)}
    assert '"A.*"' in machine.told()["A.One"].message
    assert {name.split()[1] for name in machine.workers.ran} == {"B.Good"}


def test_what_is_wrong_with_one_is_its_own_affair(boot: Boot) -> None:
    bad_name = replace(plugin("../../etc"), name="../../etc")
    bad_version = plugin("A.Version", version="latest")
    bad_state = plugin("A.State", state="Unheard")
    machine = boot()
    machine.carry_out(goal_state(1, bad_name, bad_version, bad_state, plugin("B.Good")))
    assert machine.brief() == {
        "../../etc": ("NotReady", -1),
        "A.Version": ("NotReady", -1),
        "A.State": ("NotReady", -1),
        "B.Good": ("Ready", 0),
    }
    assert machine.folders() == {"B.Good-1.0.0.0"}


def test_what_another_agent_has_installed_is_taken_over_and_what_nobody_names_is_removed(boot: Boot) -> None:
    machine = boot()
    for folder, state in {"A.Old-1.0.0.0": "Enabled", "A.Old-0.9": "NotInstalled", "B.Gone-2.0": "Enabled"}.items():
        (machine.lib / folder / "config").mkdir(parents=True)
        (machine.lib / folder / "config" / "HandlerState").write_text(state)
    for name in ("B.Gone-2.0.zip", "C.Never__1.0.zip", "A.Old__1.0.0.0.zip", "WALinuxAgent-2.9.0.4.zip"):
        (machine.lib / name).write_bytes(b"zip")
    (machine.lib / "history").mkdir()
    legacy = machine.lib / "handler_state" / "D.Legacy-1.0"
    legacy.mkdir(parents=True)
    (legacy / "state").write_text("Enabled")
    (machine.lib / "D.Legacy-1.0" / "config").mkdir(parents=True)
    machine.carry_out(goal_state(1, plugin("A.Old", "1.1.0.0"), plugin("D.Legacy", "1.0")))
    assert [name for name in machine.workers.ran if "A.Old" in name] == [
        "disable A.Old 1.0.0.0 1",
        "carry over A.Old-1.0.0.0 A.Old-1.1.0.0",
        "update A.Old 1.1.0.0 1",
        "uninstall A.Old 1.0.0.0 1",
        "install A.Old 1.1.0.0 1",
        "enable A.Old 1.1.0.0 1",
    ]
    assert [name for name in machine.workers.ran if "A.Old" not in name] == ["enable D.Legacy 1.0 1"]
    assert machine.folders() == {
        "A.Old-1.1.0.0",
        "A.Old__1.0.0.0.zip",
        "WALinuxAgent-2.9.0.4.zip",
        "D.Legacy-1.0",
        "handler_state",
        "history",
    }


def test_a_command_of_one_that_no_goal_state_names_is_waited_for_before_its_folder_goes(boot: Boot) -> None:
    machine = boot()
    machine.workers.hold = lambda name: name.startswith("enable")
    machine.take(goal_state(1, plugin("A.One")))
    machine.until(lambda: machine.workers.held)
    machine.take(goal_state(2, plugin("B.Two")))
    machine.workers.hold = lambda _: False
    machine.until(lambda: machine.ended)
    assert (machine.ended, "A.One-1.0.0.0" in machine.folders()) == (["incarnation_2"], True)
    machine.workers.held["enable A.One 1.0.0.0 1"].fulfil(WELL)
    machine.until(lambda: machine.folders() == {"B.Two-1.0.0.0"})
    machine.until(lambda: "A.One" not in machine.journal.state.extensions.handlers)


def test_names_that_come_and_go_do_not_fill_the_journal(boot: Boot) -> None:
    """As those of run commands do."""
    machine = boot()
    machine.workers.manifest = replace(PLAIN, supports_multiple_extensions=True)
    for number in range(1, 40):
        one = ExtensionSettings(f"run{number}", 1, "enabled", 0, "")
        before = ExtensionSettings(f"run{number - 1}", 1, "disabled", 0, "")
        several = replace(plugin("A.Run"), is_multi_config=True, settings=(one, before))
        machine.carry_out(goal_state(number, several))
    assert len(machine.life("A.Run").ends) <= 3
    assert machine.life("A.Run").enabled == ("run39",)


def test_a_handler_that_can_have_one_extension_is_refused_several(boot: Boot) -> None:
    machine = boot()
    machine.carry_out(goal_state(1, replace(plugin("A.One"), is_multi_config=True)))
    assert machine.brief() == {"A.One": ("NotReady", -1)}
    assert "supportsMultipleExtensions" in machine.told()["A.One"].message
    assert machine.workers.ran == []
