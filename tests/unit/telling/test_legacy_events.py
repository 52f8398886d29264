# SPDX-License-Identifier: Apache-2.0
"""Which files in LIB/events are taken for old extensions' events, how many, and that each goes once it was kept."""

import os
from pathlib import Path

from ipc.messages import EventRecord, Message, ParseEventRecord
from supervisor.contact import BadDocument, UnusableDocument
from supervisor.loop import Loop
from supervisor.telemetry.events import AgentEvent
from supervisor.telemetry.legacy_events import MOST_A_ROUND, MOST_FILES, LegacyEvents
from supervisor.telemetry.spool import Spool
from supervisor.telemetry.telemetry import Telemetry
from tests.unit.supervisor.turned import HandClock, run


class Vm:
    """A folder of events, and a reader that makes one of each file but the unreadable."""

    def __init__(self, folder: Path, *, on: bool = True) -> None:
        self.loop = Loop(HandClock())
        self.folder = folder / "events"
        self.folder.mkdir()
        self.read: list[bytes] = []
        self.said: list[str] = []
        self.broken: list[Exception] = []
        self.spool = Spool(str(folder / "spool"), lambda *_: None) if on else None
        self.telemetry = Telemetry(self.loop, self.spool, None, str)
        self.collector = LegacyEvents(
            self.loop, self.parse, self.telemetry, str(self.folder), lambda _l, _s, text: self.said.append(text)
        )

    async def parse(self, request: Message, name: str, document: bytes, kind: type[EventRecord]) -> EventRecord:
        assert (request, name, kind) == (ParseEventRecord(), "event-record", EventRecord)
        self.read.append(document)
        if self.broken:
            raise self.broken.pop(0)
        if document == b"none":
            raise UnusableDocument("no event")
        return EventRecord("P.T", "1.2", "Enable", succeeded=True, message=document.decode(), duration_ms=3)

    def sweep(self) -> None:
        run(self.loop, self.collector.once())
        self.telemetry.flush()

    def put(self, name: str, content: bytes = b"e") -> Path:
        path = self.folder / name
        path.write_bytes(content)
        os.utime(path, (1.6e9, 1.6e9))
        return path

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def kept(self) -> list[AgentEvent]:
        assert self.spool is not None
        stored = [event for number in self.spool.files for event in self.spool.read(number)]
        return [event for event in stored if isinstance(event, AgentEvent)]


def test_each_is_kept_as_of_its_files_time_and_its_file_goes(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    vm.put("100.tld", b"one")
    vm.put("200.waagent.tld", b"two")
    vm.put("300.tmp")
    vm.sweep()
    assert (vm.read, vm.left, vm.said) == ([b"two", b"one"], ["300.tmp"], [])
    first = vm.kept()[0]
    assert (first.name, first.version, first.operation, first.succeeded) == ("P.T", "1.2", "Enable", True)
    assert (first.message, first.duration_ms, first.source.at) == ("two", 3, "2020-09-13T12:26:40Z")


def test_no_link_no_pipe_and_nobody_elses_file_is_read(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (vm.folder / "1.tld").symlink_to(secret)
    os.link(secret, vm.folder / "2.tld")
    os.mkfifo(vm.folder / "3.tld")
    vm.put("4.tld", b"none")
    vm.sweep()
    assert (vm.read, vm.left, secret.read_bytes()) == ([b"none"], [], b"secret")
    (told,) = vm.kept()
    assert told.message == "events: dropped 3 no file, 1 not readable"


def test_the_folder_itself_is_no_link_and_need_not_be_there(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    vm.put("1.tld")
    vm.folder.rename(elsewhere)
    vm.sweep()
    assert vm.said == []
    vm.folder.symlink_to(elsewhere)
    vm.sweep()
    assert (vm.read, [path.name for path in elsewhere.iterdir()]) == ([], ["1.tld"])


def test_a_round_starts_few_parsers_and_what_is_too_much_goes(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    for number in range(MOST_FILES + 5):
        vm.put(f"{number:05}.tld", b"%d" % number)
    vm.sweep()
    assert (len(vm.read), vm.read[0]) == (MOST_A_ROUND, b"%d" % (MOST_FILES + 4))
    assert len(vm.left) == MOST_FILES - MOST_A_ROUND
    assert vm.left[0] == "00005.tld"
    assert vm.kept()[-1].message == "events: dropped 5 over the limit of a period"


def test_one_that_no_parser_could_be_had_for_stays_once(tmp_path: Path) -> None:
    vm = Vm(tmp_path)
    vm.put("1.tld")
    vm.broken = [BadDocument("parser died 4 times")] * 2
    vm.sweep()
    assert (vm.left, len(vm.said)) == (["1.tld"], 1)
    vm.sweep()
    assert (vm.left, vm.kept()[-1].message) == ([], "events: dropped 1 not readable")


def test_switched_off_the_files_go_unread(tmp_path: Path) -> None:
    vm = Vm(tmp_path, on=False)
    vm.put("1.tld")
    vm.sweep()
    assert (vm.read, vm.left) == ([], [])
