# SPDX-License-Identifier: Apache-2.0
"""When vmSettings are asked for, what an answer means, and what is told of those that are none (hostga-plugin.md 5)."""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import pytest

from ipc.descriptors import sealed_memfd
from ipc.errors import HostUnreachable, InputError
from ipc.messages import Message
from supervisor.contact import UnusableDocument
from supervisor.goal_state.vm_settings import NOT_ASKED_FOR_S, SUMMARY_S, Errors, Heard, VmSettingsPoll
from supervisor.loop import Loop, Promise
from supervisor.wire.plugin import PluginAnswer
from tests.unit.supervisor.turned import HandClock, run
from workers.parser import vm_settings

T = TypeVar("T", bound=Message)
NOT_MODIFIED = PluginAnswer(304, b"", "")


def document(source: str = "FastTrack", version: str = "1.0.8.159", **more: object) -> bytes:
    said = {
        "hostGAPluginVersion": version,
        "vmSettingsSchemaVersion": "0.0",
        "activityId": "a",
        "correlationId": "c",
        "extensionsLastModifiedTickCount": 637726657706205217,
        "extensionGoalStatesSource": source,
        "statusUploadBlob": {"value": "https://s.example/x?sig=SECRET", "statusBlobType": "BlockBlob"},
    }
    return msgspec.json.encode(said | more)


@dataclass
class Ground:
    """A plugin that answers by a list, its last one for ever, and the parser's reader in this process."""

    answers: list[PluginAnswer | HostUnreachable] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    parsed: int = 0
    said: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    hours: list[Errors] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = HandClock()
        self.loop = Loop(self.clock)
        self.poll = VmSettingsPoll(self, self.parse, self.clock, lambda *words: self.said.append(words[2]))
        self.poll.on_unreadable = lambda etag, _: self.unreadable.append(etag)
        self.poll.on_hour = self.hours.append

    async def vm_settings(self, etag: str) -> PluginAnswer:
        self.asked.append(etag)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, HostUnreachable):
            raise answer
        return answer

    def parse(
        self, request: Message, name: str, document: bytes, kind: type[T]
    ) -> Coroutine[Promise[Any], None, tuple[T, tuple[int, ...]]]:
        assert type(request).__name__ == "ParseVmSettings"

        async def read() -> tuple[T, tuple[int, ...]]:
            self.parsed += 1
            try:
                answer, *files = vm_settings.parse(document)
            except InputError as error:
                raise UnusableDocument(f"{name}: {error}") from None
            assert isinstance(answer, kind)
            return answer, tuple(sealed_memfd(name, content) for content in files)

        return read()

    def ask(self, *answers: PluginAnswer | HostUnreachable, forced: bool = False) -> Heard:
        """Ask once; `answers` are what the plugin says from now on."""
        if answers:
            self.answers = list(answers)
        return run(self.loop, self.poll.ask(forced=forced))


def test_what_was_said_holds_until_something_else_is() -> None:
    ground = Ground()
    first = ground.ask(PluginAnswer(200, document(), "7"), NOT_MODIFIED)
    assert (first.standing, first.etag, first.is_new) == ("given", "7", True)
    assert first.settings is not None
    assert first.settings.goal_state.source == "FastTrack"
    assert b"SECRET" not in first.document
    # New until it has been acted on, whatever the host says meanwhile.
    assert ground.ask().is_new
    ground.poll.settle()
    again = ground.ask()
    assert (again.standing, again.etag, again.is_new, again.document) == ("given", "7", False, b"")
    assert ground.poll.is_supported
    assert ground.ask(PluginAnswer(200, document(), "8")).is_new
    assert ground.asked == ["", "7", "7", "7"]
    ground.ask(PluginAnswer(200, document(), "8"), forced=True)
    assert ground.asked[-1] == ""


@pytest.mark.parametrize(
    "answer", [PluginAnswer(404, b"", ""), PluginAnswer(200, document(version="1.0.8.132"), "7")], ids=("404", "old")
)
def test_a_plugin_without_vm_settings_is_left_alone_for_six_hours(answer: PluginAnswer) -> None:
    ground = Ground()
    assert ground.ask(answer).standing == "none"
    for _ in range(3):
        ground.clock.now += NOT_ASKED_FOR_S / 4
        assert ground.ask().standing == "none"
    assert len(ground.asked) == 1
    ground.clock.now += NOT_ASKED_FOR_S / 4
    assert ground.ask(PluginAnswer(200, document(), "7")).standing == "given"
    assert not any("warning" in text for text in ground.said)


def test_a_document_that_cannot_be_read_is_parsed_and_noted_once() -> None:
    ground = Ground()
    for _ in range(5):
        heard = ground.ask(PluginAnswer(200, b'{"hostGAPluginVersion": ', "7"))
        assert (heard.standing, heard.is_new) == ("unknown", False)
        assert heard.problem
    assert (ground.parsed, ground.unreadable) == (1, ["7"])
    assert len(ground.said) == 3
    # It was the way that spoiled it: the same version, whole this time.
    assert ground.ask(PluginAnswer(200, document(), "7")).standing == "given"
    assert ground.said[-1] == "vmSettings answer again"


def test_what_goes_wrong_is_counted_by_class_and_told_three_times_an_hour() -> None:
    ground = Ground()
    wrong = (
        PluginAnswer(500, b"", ""),
        PluginAnswer(502, b"", ""),
        PluginAnswer(410, b"", ""),
        HostUnreachable("GET /vmSettings: no answer within 10 s"),
        HostUnreachable("GET /vmSettings: connection refused"),
        PluginAnswer(200, document(), ""),
        PluginAnswer(304, b"", ""),
    )
    for answer in wrong:
        assert ground.ask(answer).standing == "unknown"
    assert ground.poll.errors == Errors(7, 7, 2, 1, 1, 1)
    assert len(ground.said) == 3
    ground.clock.now += SUMMARY_S
    assert ground.ask(PluginAnswer(200, document(), "7")).standing == "given"
    (hour,) = ground.hours
    assert hour.told == ('{"requests":7,"errors":7,"serverErrors":2,"clientErrors":1,"timeouts":1,"failedRequests":1}')
    ground.clock.now += SUMMARY_S
    ground.ask(NOT_MODIFIED)
    assert len(ground.hours) == 1


def test_trouble_takes_nothing_back() -> None:
    ground = Ground()
    ground.ask(PluginAnswer(200, document(), "7"))
    ground.poll.settle()
    assert ground.ask(PluginAnswer(500, b"", "")).standing == "unknown"
    heard = ground.ask(NOT_MODIFIED)
    assert (heard.standing, heard.is_new, ground.asked[-1]) == ("given", False, "7")
