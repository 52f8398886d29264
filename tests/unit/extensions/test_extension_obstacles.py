# SPDX-License-Identifier: Apache-2.0
"""What a handler puts in the way, what a policy forbids meanwhile, and what was written down but never begun."""

import gc
import shutil
from typing import Any, NoReturn

import pytest
from msgspec.structs import replace

from ipc.errors import CommitError, HostUnreachable
from ipc.messages import ExtensionSettings, Plugin
from ipc.messages.extension_rules import ExtensionRule
from supervisor.extensions import files
from supervisor.extensions.commands import Order
from supervisor.extensions.procedure import Procedure
from tests.unit.extensions.lives import PLAIN
from tests.unit.extensions.machine import WELL, Boot, Machine, goal_state, plugin

ONE = "A.One-1.0.0.0"


def _procedures() -> int:
    gc.collect()
    return sum(isinstance(each, Procedure) for each in gc.get_objects())


async def unreachable(*_: object) -> NoReturn:
    raise HostUnreachable("it can't be had")


def rules(**more: Any) -> tuple[ExtensionRule, ...]:
    return (ExtensionRule("A.One", "a test wants none of it", file="50-test.toml", **more),)


def several(first: str = "enabled", state: str = "enabled") -> Plugin:
    settings = tuple(ExtensionSettings(name, 1, word, 0, "") for name, word in (("e1", first), ("e2", "enabled")))
    return replace(plugin("A.One", state=state), is_multi_config=True, settings=settings)


def block(machine: Machine, folder: str, name: str) -> None:
    """A folder with something in it stands where a file of the agent's would."""
    path = machine.lib / folder / name
    path.unlink(missing_ok=True)
    (path / "full").mkdir(parents=True)


@pytest.mark.parametrize("name", ["status/e1.7.status", "config/e1.HandlerState", "config/e1.1.settings"])
def test_a_file_that_can_not_go_keeps_no_extension_enabled_and_no_handler_here(boot: Boot, name: str) -> None:
    machine = boot()
    machine.workers.manifest = replace(PLAIN, supports_multiple_extensions=True)
    machine.carry_out(goal_state(1, several()))
    block(machine, ONE, name)
    machine.carry_out(goal_state(2, several(first="disabled")))
    assert machine.life("A.One").enabled == ("e2",)
    assert [text for text in machine.log if name in text]
    machine.carry_out(goal_state(3, several(state="uninstall")))
    assert machine.folders() == set()


def test_a_state_that_can_not_be_written_keeps_no_handler_from_being_updated_or_removed(boot: Boot) -> None:
    machine = boot()
    machine.workers.manifest = replace(PLAIN, installs_after_update=False)
    machine.carry_out(goal_state(1, plugin("A.One")))

    async def remove(folder: str) -> None:
        shutil.rmtree(machine.lib / folder)
        if folder == ONE:
            block(machine, "A.One-2.0.0.0", "config/HandlerState")

    machine.workers.remove = remove  # type: ignore[method-assign]
    machine.carry_out(goal_state(2, plugin("A.One", "2.0.0.0")))
    assert machine.brief() == {"A.One": ("Ready", 0)}
    machine.carry_out(goal_state(3, plugin("A.One", "2.0.0.0", state="uninstall")))
    assert machine.folders() == set()


def test_a_folder_that_can_not_be_removed_does_not_hold_up_what_a_later_goal_state_wants(boot: Boot) -> None:
    machine = boot()
    machine.carry_out(goal_state(1, plugin("A.One")))

    async def remove(folder: str) -> NoReturn:
        raise CommitError(f"{folder}: Operation not permitted")

    machine.workers.remove = remove  # type: ignore[method-assign]
    machine.carry_out(goal_state(2, plugin("A.One", state="uninstall")))
    assert machine.brief() == {"A.One": ("NotReady", -1)}
    machine.carry_out(goal_state(3, plugin("A.One")))
    assert machine.brief() == {"A.One": ("Ready", 0)}
    assert machine.workers.ran[-2:] == ["install A.One 1.0.0.0 1", "enable A.One 1.0.0.0 1"]


def test_a_failed_update_ends_with_its_own_code_whatever_stands_in_its_states_place(boot: Boot) -> None:
    machine = boot()
    machine.carry_out(goal_state(1, plugin("A.One")))
    machine.workers.results["update A.One"] = replace(WELL, code=1008, exit_code=1)

    async def carry_over(source: str, target: str) -> None:
        assert source == ONE
        block(machine, target, "config/HandlerState")

    machine.workers.carry_over = carry_over  # type: ignore[method-assign]
    machine.carry_out(goal_state(2, plugin("A.One", "2.0.0.0")))
    assert machine.brief() == {"A.One": ("NotReady", 1008)}
    assert machine.life("A.One").undertaking is None
    assert machine.life("A.One").failed_upgrade == "2.0.0.0"


def test_each_command_that_ended_is_let_go_with_its_keys(boot: Boot) -> None:
    """Also where a link stands in the way of what is written last."""
    machine = boot()
    run = machine.workers.run

    async def moves(order: Order) -> Any:
        result = await run(order)
        config = machine.lib / ONE / "config"
        if order.verb == "install":
            config.symlink_to(config.rename(machine.lib / ONE / "aside"))
        return result

    machine.workers.run = moves  # type: ignore[method-assign]
    machine.carry_out(goal_state(1, plugin("A.One")))
    assert [each.number for each in machine.runs][:1] == [1]


@pytest.mark.parametrize("more", [{"allowed": False}, {"denied": ("install",)}])
def test_what_is_denied_meanwhile_is_neither_fetched_nor_run(boot: Boot, more: dict[str, Any]) -> None:
    machine = boot()
    machine.workers.obtain = unreachable  # type: ignore[method-assign]
    wanted = goal_state(1, plugin("A.One"))
    machine.carry_out(wanted)
    machine = boot(rules=rules(**more))
    machine.carry_out(wanted)
    assert (machine.workers.ran, machine.brief()) == ([], {"A.One": ("NotReady", 1009)})
    assert machine.folders() == set()


def test_an_update_that_is_denied_meanwhile_leaves_the_old_version(boot: Boot) -> None:
    machine = boot()
    machine.carry_out(goal_state(1, plugin("A.One")))
    machine.workers.obtain = unreachable  # type: ignore[method-assign]
    wanted = goal_state(2, plugin("A.One", "2.0.0.0"))
    machine.carry_out(wanted)
    machine = boot(rules=rules(denied=("update",)))
    machine.carry_out(wanted)
    assert machine.workers.ran == []
    assert machine.life("A.One").version == "1.0.0.0"


@pytest.mark.parametrize("why", ["denied", "another goal state", "not named"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_command_that_was_written_down_is_begun_only_if_it_is_wanted_still(
    boot: Boot, why: str, *, begun: bool
) -> None:
    machine = boot()
    run = machine.workers.run

    async def fails(order: Order) -> NoReturn:
        if begun:
            await run(order)
        raise HostUnreachable("it can't be had")

    machine.workers.run = fails  # type: ignore[method-assign]
    machine.carry_out(goal_state(1, plugin("A.One")))
    machine = boot(rules=rules(allowed=False) if why == "denied" else ())
    then = {
        "denied": goal_state(1, plugin("A.One")),
        "another goal state": goal_state(2, plugin("A.One", state="disabled")),
        "not named": goal_state(2, plugin("B.Two")),
    }
    machine.carry_out(then[why])
    machine.until(lambda: why != "not named" or "A.One" not in machine.journal.state.extensions.handlers)
    ran = [name for name in machine.workers.ran if name.startswith("install A.One")]
    assert ran == (["install A.One 1.0.0.0 1"] if begun else []), "once: begun before, it is only asked for"
    assert machine.life("A.One").version == ("1.0.0.0" if begun and why != "not named" else "")


@pytest.mark.parametrize("more", [{"allowed": False}, {"denied": ("uninstall",)}])
def test_what_may_not_be_uninstalled_stays_though_no_goal_state_names_it(boot: Boot, more: dict[str, Any]) -> None:
    boot().carry_out(goal_state(1, plugin("A.One")))
    machine = boot(rules=rules(**more))
    machine.carry_out(goal_state(2, plugin("B.Two")))
    assert machine.folders() == {ONE, "B.Two-1.0.0.0"}
    assert [text for text in machine.log if "it stays" in text and "50-test.toml" in text]
    assert machine.life("A.One").version == "1.0.0.0"


def test_a_folder_of_handlers_that_can_not_be_read_makes_none_of_them_gone(boot: Boot) -> None:
    wanted = goal_state(1, plugin("A.One"))
    machine = boot()
    machine.carry_out(wanted)
    machine.lib.rename(machine.lib.with_name("aside"))
    machine.lib.touch()
    machine.carry_out(goal_state(2, plugin("A.One", sequence=2)))
    assert machine.brief() == {"A.One": ("NotReady", -1)}
    assert machine.life("A.One").version == "1.0.0.0"


def test_a_former_folder_with_nothing_in_its_place_is_no_left_over(boot: Boot) -> None:
    machine = boot()
    machine.carry_out(goal_state(1, plugin("A.One")))
    (machine.lib / ONE).rename(machine.lib / f".{ONE}.old")
    (machine.lib / ".C.Three-1.0.0.0.gone").mkdir()
    machine.workers.broken.add("A.One")
    machine.carry_out(goal_state(2, plugin("A.One"), plugin("B.Two")))
    assert machine.workers.removed == ["C.Three-1.0.0.0"]
    machine.workers.removed.clear()
    machine.workers.is_busy = True
    machine.carry_out(goal_state(3, plugin("A.One"), plugin("B.Two")))
    assert machine.workers.removed == []


def test_numbers_go_on_where_those_of_a_lost_journal_have_ended(boot: Boot) -> None:
    machine = boot()
    machine.carry_out(goal_state(1, plugin("A.One")))
    (machine.lib.parent / "journal").unlink()
    machine = boot()
    machine.carry_out(goal_state(2, plugin("B.Two")))
    assert [order.number for order in machine.workers.orders] == [3, 4]


def test_a_second_one_of_one_name_is_a_problem_and_no_endless_to_and_fro(boot: Boot) -> None:
    machine = boot()
    machine.workers.broken = {"C.Broken"}
    again = replace(plugin("A.One", state="uninstall"), problem="another one has this name")
    machine.carry_out(goal_state(1, plugin("A.One"), again, plugin("C.Broken")))
    machine.until(lambda: machine.workers.fetched > 6)
    assert machine.workers.ran == ["install A.One 1.0.0.0 1", "enable A.One 1.0.0.0 1"]


def test_a_plugin_that_the_goal_state_names_no_more_takes_nothing_of_another_document(boot: Boot) -> None:
    machine = boot()
    wanted = goal_state(1, plugin("A.One"))
    choose = machine.workers.choose

    async def renews(of: Plugin, *, verify: bool, is_new: bool) -> Any:
        machine.extensions.renew(replace(wanted, goal_state=replace(wanted.goal_state, plugins=(plugin("B.Two"),))))
        return await choose(of, verify=verify, is_new=is_new)

    machine.workers.choose = renews  # type: ignore[method-assign]
    machine.take(wanted)
    machine.until(lambda: machine.brief().get("A.One") == ("NotReady", -1))
    assert "no longer names A.One 1.0.0.0" in machine.told()["A.One"].message
    assert machine.workers.ran == []


def test_names_that_a_host_makes_up_are_not_kept(boot: Boot) -> None:
    machine = boot()
    machine.workers.broken = {f"H{number}.P" for number in range(5)}
    before = _procedures()
    for number in (*range(5), 0):
        machine.carry_out(goal_state(1 + len(machine.ended), plugin(f"H{number}.P")))
    assert _procedures() == before + 1
    assert len([text for text in machine.log if text.startswith("H0.P: ")]) == 2, "said anew of one that came again"


def test_a_folder_full_of_names_is_looked_at_so_far_and_no_further(boot: Boot) -> None:
    machine = boot()
    config = machine.lib / ONE / "config"
    config.mkdir(parents=True)
    (machine.lib / ONE / "status").mkdir()
    for number in range(files.MOST_LOOKED_AT + 1):
        (config / f"e1.{number}.settings").touch()
    files.HandlerFiles(str(machine.lib), "/var/log", machine.log.append).drop(ONE, "e1")
    assert len(list(config.iterdir())) == 1
    assert [text for text in machine.log if f"{files.MOST_LOOKED_AT} names" in text]
