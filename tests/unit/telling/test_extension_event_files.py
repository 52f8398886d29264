# SPDX-License-Identifier: Apache-2.0
"""Which files of extensions are taken for events, how many, and that nothing of them stays or leads elsewhere."""

import os
from pathlib import Path

import pytest

from ipc.errors import HostUnreachable
from ipc.messages import Dropped, ExtensionEvent, ExtensionEvents, Message, ParseEventFile
from supervisor.contact import BadDocument, UnusableDocument
from supervisor.loop import Loop
from supervisor.telemetry.extension_events import MOST_EVENTS, MOST_FILE_BYTES, Collector
from supervisor.telemetry.spool import Spool
from supervisor.telemetry.telemetry import Telemetry
from tests.unit.supervisor.turned import HandClock, run

HANDLER = "Publisher.Type"
EVENT = ExtensionEvent("1.2", "then", "task", "Informational", "hello", "7", "8", "op")


class Vm:
    """A folder of logs, and a reader of what lies there: a file of N letters has N events, unless it says more."""

    def __init__(self, folder: Path, *, on: bool = True) -> None:
        self.clock = HandClock()
        self.clock.now = 4e9  # every file in a test is long finished
        self.loop = Loop(self.clock)
        self.logs = folder / "azure"
        self.events = self.logs / HANDLER / "events"
        self.events.mkdir(parents=True)
        self.read: list[bytes] = []
        self.said: list[str] = []
        self.broken: list[Exception] = []
        self.spool = Spool(str(folder / "spool"), lambda *_: None) if on else None
        self.telemetry = Telemetry(self.loop, self.spool, None, str)
        self.collector = Collector(
            self.loop,
            self.parse,
            self.telemetry,
            str(self.logs),
            lambda _l, _s, text: self.said.append(text),
        )

    async def parse(self, request: Message, name: str, document: bytes, kind: type[ExtensionEvents]) -> ExtensionEvents:
        assert isinstance(request, ParseEventFile)
        assert (name, kind) == ("event-file", ExtensionEvents)
        self.read.append(document)
        if self.broken:
            raise self.broken.pop(0)
        if document == b"no json":
            raise UnusableDocument("no JSON")
        if request.first == 0 and document.startswith(b"long"):
            return ExtensionEvents((EVENT,), (), next=1)
        dropped = (Dropped("message too long", 2),) if b"!" in document else ()
        return ExtensionEvents((EVENT,) * (len(document) - request.first), dropped, next=None)

    def sweep(self) -> None:
        run(self.loop, self.collector.once())
        self.telemetry.flush()

    def put(self, name: str, content: bytes = b"e") -> Path:
        path = self.events / name
        path.write_bytes(content)
        return path

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.events.iterdir())

    def kept(self) -> list[tuple[str, str]]:
        """Every event on disk: its name, and what it says."""
        assert self.spool is not None
        stored = [event for number in self.spool.files for event in self.spool.read(number)]
        return [(getattr(event, "event_name", ""), getattr(event, "message", "")) for event in stored]


def test_events_are_taken_newest_file_first_and_their_files_go(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    vm.put("9.json", b"one")
    vm.put("100.json", b"two")
    vm.sweep()
    assert (vm.read, vm.left) == ([b"two", b"one"], [])
    assert vm.kept() == [("Publisher.Type-1.2", "hello")] * 6
    vm.sweep()
    assert len(vm.read) == 2


def test_no_link_no_folder_no_pipe_is_read_and_none_stays(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (vm.events / "1.json").symlink_to(secret)
    os.mkfifo(vm.events / "2.json")
    os.link(secret, vm.events / "3.json")
    vm.put("4.json", b"e")
    vm.put("notes.txt")
    vm.put("x5.json")
    (vm.events / "folder").mkdir()
    other = tmp_path / "elsewhere"
    (other / "events").mkdir(parents=True)
    (other / "events" / "1.json").write_bytes(b"e")
    (vm.logs / "Publisher.Linked").symlink_to(other)
    (vm.logs / "Publisher.Inner").mkdir()
    (vm.logs / "Publisher.Inner" / "events").symlink_to(other / "events")
    vm.sweep()
    assert (vm.read, vm.left, vm.said) == ([b"e"], ["folder"], [])
    assert (secret.read_bytes(), (other / "events" / "1.json").exists()) == (b"secret", True)
    assert vm.kept() == [("Publisher.Type-1.2", "hello"), ("", "Publisher.Type: dropped 3 no file")]


def test_what_may_be_sent_in_a_period_is_bounded_and_the_rest_is_counted_in_one_event(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    for number in range(700):
        vm.put(f"{number}.json")
    vm.put("700.json", b"e" * (MOST_EVENTS - 1))
    vm.put("701.json", b"n" * (MOST_FILE_BYTES + 1))
    vm.put("702.json", b"no json")
    vm.sweep()
    assert len(vm.read) == 3  # the one without JSON, the large one of many events, and one more for the last place
    assert vm.left == []
    kept = vm.kept()
    assert kept[:-1] == [("Publisher.Type-1.2", "hello")] * MOST_EVENTS
    assert kept[-1][1] == ("Publisher.Type: dropped 1 file too large, 1 not readable, 699 over the limit of a period")


def test_one_file_with_more_events_than_a_period_has_room_for_is_cut(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    vm.put("1.json", b"!" + b"e" * (MOST_EVENTS + 4))
    vm.sweep()
    assert len(vm.kept()) == MOST_EVENTS + 1
    assert vm.kept()[-1][1] == "Publisher.Type: dropped 2 message too long, 5 over the limit of a period"


def test_a_file_with_more_than_one_answer_holds_is_read_to_its_end(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    vm.put("1.json", b"long, and longer")
    vm.sweep()
    assert (len(vm.read), len(vm.kept()), vm.left) == (2, 16, [])


def test_a_file_that_no_parser_could_be_had_for_stays_for_the_next_round_and_one_that_kills_it_twice_does_not(
    tmp_path: Path,
) -> None:
    vm = Vm(tmp_path)
    vm.put("1.json")
    vm.put("2.json")
    vm.broken = [BadDocument("parser died 4 times"), BadDocument("parser died 4 times")]
    vm.sweep()
    assert (vm.left, vm.kept()) == (["1.json", "2.json"], [])
    assert "events/2.json: parser died" in vm.said[0]
    vm.sweep()
    assert (vm.left, len(vm.kept())) == ([], 2)
    vm.broken = [HostUnreachable("unused")]
    vm.sweep()
    assert len(vm.said) == 1


def test_a_disk_that_takes_no_event_keeps_the_file(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    vm.put("1.json")
    folder = tmp_path / "spool"
    folder.rmdir()
    folder.write_bytes(b"")
    vm.sweep()
    assert vm.left == ["1.json"]
    assert "left for the next round" in vm.said[0]
    folder.unlink()
    folder.mkdir()
    vm.sweep()
    assert (vm.left, len(vm.kept())) == ([], 1)


def test_what_is_being_written_is_left_to_be_finished(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    path = vm.put("5.json.tmp")
    vm.clock.now = path.stat().st_mtime + 10
    vm.sweep()
    assert vm.left == ["5.json.tmp"]


def test_switched_off_the_files_go_unread(tmp_path: Path) -> None:
    vm = Vm(tmp_path, on=False)
    vm.put("1.json")
    vm.sweep()
    assert (vm.read, vm.left) == ([], [])


@pytest.mark.parametrize("name", ["History", "..", "Publisher", "a b.c", "Publisher." + "x" * 130])
def test_only_folders_named_like_handlers_are_looked_into(tmp_path: Path, name: str) -> None:
    vm = Vm(tmp_path)
    if name != "..":
        (vm.logs / name / "events").mkdir(parents=True)
        (vm.logs / name / "events" / "1.json").write_bytes(b"e")
    vm.sweep()
    assert vm.read == []


def test_without_any_folder_of_logs_there_is_nothing_to_say(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    vm.collector = Collector(vm.loop, vm.parse, vm.telemetry, str(tmp_path / "none"), vm.collector._say)
    vm.sweep()
    assert vm.said == []


def test_one_handlers_trouble_is_no_others(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    vm.put("1.json")
    for name in ("A.before", "Z.after"):
        folder = vm.logs / name / "events"
        folder.mkdir(parents=True)
        (folder / "1.json").write_bytes(b"e")
    vm.broken = [BadDocument("parser died 4 times")]
    vm.sweep()
    assert [name for name, _ in vm.kept()] == ["Publisher.Type-1.2", "Z.after-1.2"]
    assert "A.before: events/1.json: parser died" in vm.said[0]
    vm.sweep()
    assert (len(vm.kept()), list((vm.logs / "A.before" / "events").iterdir())) == (3, [])


def test_an_answer_without_an_event_is_the_last_one_of_its_file(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    vm.put("1.json")

    async def stuck(*_: object) -> ExtensionEvents:
        vm.read.append(b"")
        return ExtensionEvents((), (), next=1)

    vm.collector = Collector(vm.loop, stuck, vm.telemetry, str(vm.logs), lambda *_: None)
    vm.sweep()
    assert (len(vm.read), vm.left) == (1, [])
