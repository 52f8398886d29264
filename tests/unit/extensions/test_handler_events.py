# SPDX-License-Identifier: Apache-2.0
"""What the host is told as events of what is done to handlers, and what of their last command outlives the agent."""

from pathlib import Path

from msgspec.structs import replace

from ipc.messages import ExtensionSettings
from supervisor.telemetry.telemetry import switched_off
from tests.unit.extensions.lives import PLAIN
from tests.unit.extensions.machine import WELL, Boot, Machine, goal_state, plugin
from tests.unit.telling.test_telemetry_way import Host, Vm, read

PASSWORD = "correct-horse-battery"


def told(host: Host) -> list[tuple[str, str, str, str]]:
    """Of each event: whose, of which version, what, and whether it went well."""
    columns = ("Name", "Version", "Operation", "OperationSuccess")
    return [tuple(params[name][0] for name in columns) for body in host.bodies for _, _, params in read(body)]  # type: ignore[misc]


def live(machine: Machine) -> None:
    """An install, an upgrade whose enable fails, a removal; one that can't be had, and one extension of several."""
    machine.workers.broken = {"B.Broken"}
    machine.workers.manifest = replace(PLAIN, supports_multiple_extensions=True)
    one = replace(plugin("C.Run"), is_multi_config=True, settings=(ExtensionSettings("e1", 1, "enabled", 0, ""),))
    machine.carry_out(goal_state(1, plugin("A.One"), plugin("B.Broken"), one))
    machine.until(lambda: machine.workers.fetched >= 8)
    failed = replace(WELL, code=1009, exit_code=7, output=f"[stderr]\nno {PASSWORD}", seconds=2.5)
    machine.workers.results["enable A.One"] = failed
    machine.carry_out(goal_state(2, plugin("A.One", "2.0.0.0")))
    machine.carry_out(goal_state(3, plugin("A.One", "2.0.0.0", state="uninstall")))


def test_each_command_and_download_is_an_event_without_secrets(boot: Boot, tmp_path: Path) -> None:
    host, machine = Host(), boot()
    vm = Vm(tmp_path / "state", host)
    vm.redactor.register(PASSWORD)
    machine.events.telemetry = vm.telemetry
    live(machine)
    vm.telemetry.flush()
    kept = b"".join(path.read_bytes() for path in vm.folder.iterdir())
    assert b"UnInstall" in kept
    vm.turn(10)
    assert sorted(told(host)) == sorted(
        [
            ("A.One", "1.0.0.0", "Download", "True"),
            ("A.One", "1.0.0.0", "Install", "True"),
            ("A.One", "1.0.0.0", "Enable", "True"),
            ("B.Broken", "1.0.0.0", "Download", "False"),
            ("C.Run", "1.0.0.0", "Download", "True"),
            ("C.Run.e1", "1.0.0.0", "Install", "True"),
            ("C.Run.e1", "1.0.0.0", "Enable", "True"),
            ("A.One", "2.0.0.0", "Download", "True"),
            ("A.One", "1.0.0.0", "Disable", "True"),
            ("A.One", "2.0.0.0", "Update", "True"),
            ("A.One", "1.0.0.0", "UnInstall", "True"),
            ("A.One", "2.0.0.0", "Install", "True"),
            ("A.One", "2.0.0.0", "Enable", "False"),
            ("A.One", "2.0.0.0", "UnInstall", "True"),
        ]
    )
    events = [params for body in host.bodies for _, _, params in read(body)]
    failed = next(each for each in events if (each["Operation"][0], each["OperationSuccess"][0]) == ("Enable", "False"))
    assert (failed["Duration"][0], failed["IsInternal"][0]) == ("2500", "False")
    assert "exits with 7" in failed["Message"][0]
    assert PASSWORD.encode() not in kept + b"".join(host.bodies)


def test_switched_off_there_is_none(boot: Boot, tmp_path: Path) -> None:
    host, machine = Host(), boot()
    vm = Vm(tmp_path / "state", host, switched_off)
    machine.events.telemetry = vm.telemetry
    live(machine)
    vm.turn(10)
    assert (host.bodies, vm.files, vm.telemetry.waiting) == ([], [], 0)


def test_how_the_last_command_ended_is_known_to_the_next_life(boot: Boot) -> None:
    machine = boot()
    machine.workers.results["enable B.Bad"] = replace(WELL, code=1009, exit_code=7, output="no")
    machine.workers.hold = lambda name: name == "enable C.Slow 1.0.0.0 1"
    wanted = goal_state(1, plugin("A.One"), plugin("B.Bad"), plugin("C.Slow"))
    machine.take(wanted)
    machine.until(lambda: machine.workers.held and all(name in machine.told() for name in ("A.One", "B.Bad")))
    machine.until(lambda: machine.brief()["B.Bad"] == ("NotReady", 1009) and machine.brief()["A.One"] == ("Ready", 0))
    before = {each.handler: each.last for each in machine.extensions.shown()}
    machine.journal.compact()
    machine = boot()
    machine.clock.now += 500
    machine.workers.hold = lambda _: True
    machine.take(wanted)
    after = {each.handler: each.last for each in machine.extensions.shown()}
    machine.until(lambda: machine.workers.held)
    assert after == before
    results = {name: (last.verb, last.code) for name, last in after.items() if last is not None}
    assert results == {"A.One": ("enable", 0), "B.Bad": ("enable", 1009), "C.Slow": ("install", 0)}
    bad = after["B.Bad"]
    assert bad is not None
    assert "exits with 7" in bad.text
    assert 1000 < bad.ended < 1100
