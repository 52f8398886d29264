# SPDX-License-Identifier: Apache-2.0
"""When files of handlers are looked at: what is new at once, nobody for another one's sake, and a killer of parsers
seldom. The parsers are the test's here; tests/left_files has real ones."""

import os
from pathlib import Path
from typing import Any

from ipc.messages import ExtensionStatus, Heartbeat, ParseHeartbeat
from supervisor.extensions.status_files import AT_ONCE, PAUSE_S, TRIES, Place, StatusFiles
from supervisor.fleet import Unavailable
from supervisor.loop import Loop, Promise
from tests.unit.supervisor.turned import HandClock, run


class Vm:
    """A folder of handlers; a parser that says what a file holds, never ends for `hang`, and dies of `die`."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.clock.now = 4e9
        self.loop = Loop(self.clock)
        self.lib = folder
        self.read: list[str] = []
        self.changes = 0
        self.files = StatusFiles(self.loop, self, str(folder))  # type: ignore[arg-type]
        self.files.on_change = self._changed

    def _changed(self) -> None:
        self.changes += 1

    async def do(self, _kind: str, request: Any, descriptors: tuple[int, ...], **_: Any) -> list[Any]:
        content = os.pread(descriptors[0], 100, 0).decode()
        self.read.append(content)
        if content == "hang":
            await Promise()
        if content == "die":
            raise Unavailable("parser died 4 times")
        if isinstance(request, ParseHeartbeat):
            return [(Heartbeat("Ready", 0, content), ())]
        return [(ExtensionStatus("own", "", "", "success", 0, content), ())]

    def put(self, handler: str, content: str, name: str = "status/0.status") -> Path:
        path = self.lib / f"{handler}-1.0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (self.clock.now - 60,) * 2)
        return path

    def told(self, place: Place) -> str:
        status = self.files.found(place).status
        return status.message if status is not None else ""

    def poll(self) -> None:
        """Once, and what follows from it."""
        self.files.begin_look()
        for _ in range(20):
            self.loop.call_later(0, lambda: None)
            self.loop.turn()


def place(handler: str, **more: Any) -> Place:
    return Place(handler, "1.0", sequence_number=0, **more)


def test_a_reader_that_hangs_keeps_nobody_waiting_and_is_not_given_the_same_twice(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    places = [place(f"A.hang{n}") for n in range(AT_ONCE - 1)] + [place("Z.fine")]
    for each in places:
        vm.put(each.handler, "hang" if "hang" in each.handler else "fine")
    vm.files.watch(places)
    vm.poll()
    assert [vm.told(each) for each in places] == [""] * (AT_ONCE - 1) + ["fine"]
    vm.put("Z.fine", "finer")
    vm.poll()
    assert vm.told(places[-1]) == "finer"
    assert vm.read.count("hang") == AT_ONCE - 1
    assert vm.changes == 2


def test_of_many_that_are_new_each_has_its_turn(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    places = [place(f"A.n{n}") for n in range(3 * AT_ONCE)]
    vm.files.watch(places)
    for round_ in range(3):
        for each in places[:AT_ONCE]:
            vm.put(each.handler, f"again {round_}")
        for each in places[AT_ONCE:]:
            vm.put(each.handler, "once")
        vm.poll()
    assert all(vm.told(each) == "once" for each in places[AT_ONCE:])


def test_an_end_of_a_command_is_followed_by_its_status_at_once(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    one, other = place("A.one"), place("A.other")
    vm.put("A.one", "done")
    vm.put("A.other", "hang")
    vm.files.watch([other, one])
    run(vm.loop, vm.files.look("A.one"))
    assert (vm.told(one), vm.read) == ("done", ["done"])


def test_what_kills_its_readers_is_told_after_some_tries_and_then_tried_once_a_minute(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    one = place("A.one")
    vm.put("A.one", "fine")
    vm.files.watch([one])
    vm.poll()
    vm.put("A.one", "die")
    for _ in range(TRIES - 1):
        vm.poll()
    assert vm.told(one) == "fine"
    vm.poll()
    assert vm.told(one) == "A.one-1.0/status/0.status is not used: parser died 4 times"
    for _ in range(20):
        vm.poll()
    assert vm.read.count("die") == TRIES
    vm.clock.now += PAUSE_S
    vm.put("A.one", "better")
    vm.poll()
    assert vm.told(one) == "better"


def test_a_heartbeat_grows_old_by_itself_and_that_is_told(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    one = place("A.one", has_heartbeat=True)
    vm.put("A.one", "alive", "heartbeat.log")
    vm.files.watch([one])
    vm.poll()
    assert (vm.files.found(one).is_old, vm.changes) == (False, 1)
    vm.clock.now += 541
    vm.poll()
    assert (vm.files.found(one).is_old, vm.changes) == (True, 2)
    assert vm.read == ["alive"]


def test_who_is_no_longer_wanted_is_forgotten_even_while_it_is_read(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    one = place("A.one")
    vm.put("A.one", "late")
    vm.files.watch([one])
    vm.files.begin_look()
    vm.files.watch([])
    for _ in range(5):
        vm.loop.call_later(0, lambda: None)
        vm.loop.turn()
    assert (vm.told(one), vm.changes) == ("", 0)


def test_without_any_folder_there_is_nothing_and_a_name_leads_nowhere_else(tmp_path: Path) -> None:
    vm = Vm(tmp_path / "lib")
    outside = tmp_path / "x.0.status"
    outside.write_text("secret")
    climbing = place("A.one", extension="../../../x")
    vm.files.watch([place("A.one"), climbing])
    vm.poll()
    assert (vm.told(place("A.one")), vm.read) == ("", [])
    assert "no file can be called" in vm.told(climbing)
