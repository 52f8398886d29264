# SPDX-License-Identifier: Apache-2.0
"""What people and the host are told of handlers on a real machine: commands, rows of `ps`, status files, heartbeats."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from supervisor.cli.client import ask
from supervisor.layout import Layout
from supervisor.verbs import EXTENSIONS
from tests.fabric.handler_packages import Package
from tests.fabric.handlers_vm import CONFIG, LIB, HandlersVm, Wish, handlers_vm
from tests.fabric.scene import AGENT
from tests.fabric.telemetry_rules import read_telemetry
from tests.fabric.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

GO = "/run/handlers-go"
TOKEN = "https://store.example/a.sh?sv=2018-03-28&sig=V2l0aCBzZWNyZXQ%3D"
FINE = Package("Test.Fine", does={"enable": [f"say=fetched {TOKEN}", "daemon=1000"]})
FAILS = Package("Test.Fails", does={"enable": ["fail=3"]})
SLOW = Package("Test.Slow", does={"enable": [f"wait={GO}"]})
HANGS = Package("Test.Hangs", does={"enable": ["wait=/run/never"]})
# For a wait of two seconds instead of five minutes: the order is changed before its warden reads it.
EDIT = r"s/timeout_s\\xcd\\x01\\x2c/timeout_s\\x02/"
SHORTER = f"""[Service]
ExecStartPre=/bin/sh -c "LC_ALL=C exec sed -i '{EDIT}' /run/agent-supervisor/handlers/%j/order"
"""
BEATS = Package("Test.Beats", does={"enable": ["heartbeat=Ready"]}, flags={"reportHeartbeat": True})


@pytest.fixture(scope="module")
def vm() -> Iterator[HandlersVm]:
    with handlers_vm(CONFIG + b"Debug.EtpCollectionPeriod=1\n") as made:
        yield made


def shown(vm: HandlersVm) -> dict[str, Any]:
    """What `extensions --json` prints, by handler."""
    return {each["handler"]: each for each in json.loads(vm.command("extensions", "--json"))["extensions"]}


def settled(vm: HandlersVm, handler: str, **expected: object) -> Mapping[str, Any]:
    """Its entry, once that is so."""

    def is_so() -> bool:
        answer = ask(str(vm.lab.path(Layout().control_socket)), EXTENSIONS)
        told = {one["handler"]: one for one in json.loads(bytes(answer.data)).get("extensions", ())}
        return all(told.get(handler, {}).get(name) == value for name, value in expected.items())

    until(f"{handler}: {expected}", is_so, 60.0)
    one: Mapping[str, Any] = shown(vm)[handler]
    return one


def events(vm: HandlersVm) -> list[Mapping[str, str]]:
    """Those that the host took."""
    told = [each for each in vm.scene.records() if (each["route"], each["verdict"]) == ("telemetry", "accepted")]
    return [event.told for each in told for event in read_telemetry(str(each["body"]).encode())]


def events_of(vm: HandlersVm, name: str) -> list[str]:
    """The messages of the events of that name."""
    return [event["Context1"] for event in events(vm) if event.get("EventName") == name]


def operations(vm: HandlersVm, handler: str) -> list[tuple[str, str, str]]:
    """What the host took of what was done to it: what, of which version, and whether it went well."""
    columns = ("Operation", "Version", "OperationSuccess")
    told = [tuple(event[each] for each in columns) for event in events(vm) if event.get("Name") == handler]
    return [(what, version, succeeded) for what, version, succeeded in told]


def test_while_one_runs_all_are_shown_with_what_they_use_and_what_came_of_them(vm: HandlersVm) -> None:
    vm.publish(Wish(FINE), Wish(FAILS), Wish(SLOW))
    fine = settled(vm, "Test.Fine", status="Ready", settings_status="success")
    assert (fine["wanted"], fine["version"], fine["installed"], fine["state"]) == (
        "enabled",
        "1.0.0",
        "1.0.0",
        "Enabled",
    )
    assert (fine["last"]["verb"], fine["last"]["code"], fine["running"]) == ("enable", 0, "")
    assert abs(fine["last"]["ended"] - time.time()) < 60
    assert fine["handler_class"] == "compat"
    assert len(fine["pids"]) >= 1, "what it left running is in its slice"
    assert fine["memory_bytes"] is None or fine["memory_bytes"] > 0
    fails = settled(vm, "Test.Fails", status="NotReady", code=1009)
    assert fails["last"]["code"] == 1009
    settled(vm, "Test.Slow", running="enable")
    # It is said to run from the moment on when its warden may.
    until("its warden, and the command", lambda: len(shown(vm)["Test.Slow"]["pids"]) >= 2)
    slow = shown(vm)["Test.Slow"]

    rows = {row["name"]: row for row in json.loads(vm.command("ps", "--json"))["processes"]}
    assert (rows["Test.Slow enable"]["state"], rows["Test.Slow enable"]["kind"]) == ("working", "handler")
    assert rows["Test.Slow enable"]["pid"] in slow["pids"]
    assert rows["Test.Fine"]["state"] == "waiting"
    assert rows["Test.Fine"]["pid"] in fine["pids"]
    assert 10 < len(rows["Test.Fine"]["capabilities"]) < 41, "root, less what no known extension needs"

    table = vm.command("extensions").splitlines()
    assert table[0].split()[:3] == ["NAME", "VERSION", "STATUS"] or "RUNNING" in table[0]
    assert [line.split()[0] for line in table[1:4]] == ["Test.Fine", "Test.Fails", "Test.Slow"]
    assert any(line.startswith("Test.Fails: NotReady, code 1009: ") for line in table)
    log = vm.command("extensions", "logs", "Test.Fine")
    assert "fetched https://store.example/a.sh?[redacted]" in log
    assert "V2l0" not in log
    assert "enable of version 1.0.0" in log

    left = vm.lab.path("/var/log/azure/Test.Fine/events")
    assert left.stat().st_mode & 0o777 == 0o700
    until("its events are collected", lambda: not list(left.iterdir()))
    until("the host has them", lambda: "enable of 1.0.0" in events_of(vm, "Test.Fine-1.0.0"))

    vm.lab.path(GO).touch()
    settled(vm, "Test.Slow", running="", status="Ready")
    assert "Test.Slow enable" not in vm.command("ps")
    done = [(what, "1.0.0", "True") for what in ("Download", "Install")]
    for handler, succeeded in (("Test.Fails", "False"), ("Test.Fine", "True")):
        told = [*done, ("Enable", "1.0.0", succeeded)]
        # Sent with others' events, of which so many go at once, so often.
        until(f"what was done to {handler} is told", lambda: operations(vm, handler) == told, 30.0)  # noqa: B023


def test_one_that_takes_too_long_is_ended_and_the_host_is_told_and_where_it_hung_is_in_its_log(vm: HandlersVm) -> None:
    folder = vm.lab.path("/run/systemd/system/agent-supervisor-handler-.service.d")
    folder.mkdir(parents=True)
    (folder / "shorter.conf").write_text(SHORTER)
    vm.lab.systemctl("daemon-reload")
    try:
        assert vm.until_ended(vm.publish(Wish(HANGS))) == ("Success", 0)
    finally:
        (folder / "shorter.conf").unlink()
        vm.lab.systemctl("daemon-reload")
    told = vm.handler_status("Test.Hangs")
    assert (told["status"], told["code"]) == ("NotReady", 1011)
    assert "enable of Test.Hangs-1.0.0 did not end within 300 s and was killed" in told["formattedMessage"]["message"]
    assert settled(vm, "Test.Hangs", state="Installed")["pids"] == []
    hung = vm.command("extensions", "logs", "Test.Hangs").partition("what hung:")[2]
    assert "bin/handler" in hung
    assert "nanosleep" in hung


def test_the_host_is_told_of_a_heartbeat_and_of_what_takes_a_status_files_place(vm: HandlersVm) -> None:
    assert vm.until_ended(vm.publish(Wish(BEATS))) == ("Success", 0)

    def brief() -> tuple[str, int, str]:
        told = vm.handler_status("Test.Beats")
        return told["status"], told["code"], told["formattedMessage"]["message"]

    until("the heartbeat", lambda: brief() == ("Ready", 0, "it beats"))
    killed = vm.supervisor()
    vm.kill(killed)
    until("another supervisor", lambda: vm.supervisor() != killed)
    last = settled(vm, "Test.Beats", status="Ready")["last"]
    assert (last["verb"], last["code"], abs(last["ended"] - time.time()) < 60) == ("enable", 0, True)
    folder = vm.lab.path(f"{LIB}/Test.Beats-1.0.0")
    beat, status = folder / "heartbeat.log", folder / "status" / "0.status"
    os.utime(beat, (time.time() - 700,) * 2)
    until("it is told to be silent", lambda: brief()[:2] == ("Unresponsive", -1))
    assert vm.settings_status("Test.Beats")["status"] == "success"
    assert vm.settings_status("Test.Beats")["substatus"][0]["name"] == "part"
    status.unlink()
    status.symlink_to("/etc/shadow")
    until("the link is told", lambda: vm.settings_status("Test.Beats")["code"] == -1)
    told = vm.settings_status("Test.Beats")
    assert (told["status"], "no regular file" in told["formattedMessage"]["message"]) == ("error", True)
    status.unlink()
    until("its absence", lambda: vm.settings_status("Test.Beats")["status"] == "transitioning")
    assert "root:" not in json.dumps(vm.status())


def test_what_of_a_removed_handler_can_not_go_is_shown_with_its_reason_until_it_has(vm: HandlersVm) -> None:
    """Also by an agent that has not tried it itself."""

    def left() -> list[tuple[str, str]]:
        answer = ask(str(vm.lab.path(Layout().control_socket)), EXTENSIONS)
        told = json.loads(bytes(answer.data)).get("leftovers", ())
        return [(each["path"], each["why"]) for each in told]

    path = f"{LIB}/.Test.Beats-1.0.0.gone"
    why = f"the first is {path.rpartition('/')[2]}/config/"
    vm.lab.output("chattr", "+i", f"{LIB}/Test.Beats-1.0.0/config")
    try:
        assert vm.until_ended(vm.publish()) == ("Success", 0)
        until("it is left over", lambda: [(each, why in text) for each, text in left()] == [(path, True)])
        vm.kill(vm.supervisor())
        until("the next agent knows", lambda: [(each, why in text) for each, text in left()] == [(path, True)], 20.0)
        assert f"left over: {path}, of a handler's folder" in vm.command("extensions").replace("\n", " ")
    finally:
        vm.lab.output("chattr", "-R", "-i", LIB)
    vm.publish()
    until("it goes", lambda: left() == [])


def test_without_the_agent_the_command_says_so_and_its_logs_stay_readable(vm: HandlersVm) -> None:
    done = vm.lab.run([str(AGENT), "extensions", "--socket", "/run/none"])
    assert (done.returncode, done.stdout) == (3, "")
    assert vm.lab.run([str(AGENT), "extensions", "logs", "Test.Nobody"]).returncode == 1
