# SPDX-License-Identifier: Apache-2.0
"""Handlers that put links, fifos, holes and depths in the way of what the agent reads and writes for them."""

import json
from collections.abc import Iterator
from functools import partial

import pytest

from tests.fabric.handler_packages import Package
from tests.fabric.handlers_vm import LIB, HandlersVm, Wish, handlers_vm
from tests.fabric.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

# Attack -> the words in what the host is told of the extension's own status.
STATUSES = {
    "status-link": "no regular file",
    "status-fifo": "no regular file",
    "status-huge": "",
    "status-deep": "",
    "status-folder-link": "link",
}
FOLDERS = ("config-link", "base-link", "base-gone")
OTHERS = ("manifest", "state", "heartbeat-link", "flicker")
PS_WITHIN_S = 3.0


@pytest.fixture(scope="module")
def vm() -> Iterator[HandlersVm]:
    with handlers_vm() as made:
        yield made


def name_of(attack: str) -> str:
    return f"Hostile.{attack.title().replace('-', '')}"


def wishes(sequence: int) -> list[Wish]:
    """All of them, who attack with their first settings, and a good one."""
    settings = ({"sequence": sequence, "public": {}},)
    made = [Wish(Package("Test.Good"), settings=settings)]
    for attack in (*STATUSES, *FOLDERS, *OTHERS):
        does = {"enable": [f"attack={attack}"] if sequence == 0 else []}
        flags = {"reportHeartbeat": attack == "heartbeat-link"}
        own = ({"sequence": sequence, "public": {"does": does}},)
        made.append(Wish(Package(name_of(attack), flags=flags), settings=own))
    return made


def etc(vm: HandlersVm) -> str:
    return vm.lab.output("sh", "-c", "ls -lR --time-style=full-iso /etc /root/away 2>/dev/null | sha256sum")


def folders(vm: HandlersVm) -> list[str]:
    """Of handlers, whatever they are by now."""
    return vm.lab.run(["sh", "-c", f"cd {LIB}; ls -d *-1.0.0"]).stdout.split()


def is_told(vm: HandlersVm, sequence: int) -> bool:
    told = vm.status().get("handlerAggregateStatus", ())
    numbers = [each.get("runtimeSettingsStatus", {}).get("sequenceNumber") for each in told]
    return len(numbers) == len(wishes(0)) and set(numbers) == {sequence}


def error_of(vm: HandlersVm, name: str) -> str:
    """What the host is told of its status, once that is an error."""
    told = vm.settings_status(name)
    return str(told["formattedMessage"]["message"]) if told["status"] == "error" else ""


def test_what_they_leave_harms_neither_the_agent_nor_the_others(vm: HandlersVm) -> None:
    first = vm.publish(*wishes(0))
    assert vm.until_ended(first, 160.0) == ("Success", 0)
    until("all told", lambda: is_told(vm, 0), 60.0)
    attacked = {
        each["attack"] for name in map(name_of, (*STATUSES, *FOLDERS, *OTHERS)) for each in vm.judge(f"{name}.attacks")
    }
    assert attacked == {*STATUSES, *FOLDERS, *OTHERS}
    assert vm.settings_status("Test.Good")["status"] == "success"
    for attack, word in STATUSES.items():
        # The command's end is told first, what its status file says by the next report.
        told = until(f"{attack} told", partial(error_of, vm, name_of(attack)))
        assert word in told, attack
    # Nothing of a file that only root may read has gone to the host.
    assert "root:" not in json.dumps(vm.status())
    assert vm.ps() is not None

    before = etc(vm)
    second = vm.publish(*wishes(1))
    assert vm.until_ended(second, 160.0) == ("Success", 0)
    until("all told", lambda: is_told(vm, 1), 60.0)
    assert etc(vm) == before
    for attack in FOLDERS:
        # Laid down anew, or told as what can't go on; in no case half of it.
        whole = ["install 1.0.0 1", "enable 1.0.0 1"] if vm.handler_status(name_of(attack))["status"] == "Ready" else []
        assert vm.verbs(name_of(attack))[2:] == whole, attack
    for attack in ("status-link", *OTHERS):
        assert vm.verbs(name_of(attack))[2:] == ["enable 1.0.0 1"], attack
    assert vm.settings_status("Test.Good")["status"] == "success"
    assert "root:" not in json.dumps(vm.status())

    # What it says its commands are was read when it was placed, and is not read again.
    gone = [Wish(Package(name_of("manifest")), "disabled", ({"sequence": 1, "public": {}},))]
    assert vm.until_ended(vm.publish(*gone), 160.0) == ("Success", 0)
    assert vm.verbs(name_of("manifest"))[-1] == "disable 1.0.0 1"
    assert not vm.lab.path("/root/hijacked").exists()
    # The others were removed, and nothing that their links led to. A link is no handler's folder.
    link, left = (f"{name_of(attack)}-1.0.0" for attack in ("base-link", "manifest"))
    until("their folders gone", lambda: set(folders(vm)) - {link} == {left}, 60.0)
    assert etc(vm) == before
