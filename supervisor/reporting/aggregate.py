# SPDX-License-Identifier: Apache-2.0
"""Owns the status document (wire-protocol.md 13): typed facts in, JSON in ASCII out. Pure.

Whatever is free text in it has gone through the redactor, and the whole is never larger than a host takes.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from ipc.messages.extension_documents import ExtensionStatus, Substatus
from supervisor.clock import stamp
from supervisor.compatibility import AGENT_VERSION, OWN_NAME
from supervisor.goal_state.adopted import OK, Adopted, HandlerStatus, HandlerWord, Outcome
from supervisor.reporting.machine import Machine

Clean = Callable[[str], str]
VERSION = "1.1"
# The reference cuts an extension's status at 128 KiB and leaves the sum to chance. In the HostGAPlugin's request it
# grows by a third, and that is to stay below a mebibyte.
MOST_BYTES = 640 * 1024
CUT = " ... [TRUNCATED]"
# Looked at of a text beyond what is told of it: the beginning of a secret tells where it ends.
_LOOKED_AT_BEYOND = 1024
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
SETTINGS_WORDS: dict[HandlerWord, str] = {
    "Ready": "success",
    "NotReady": "error",
    "Installing": "transitioning",
    "Unresponsive": "error",
}


class Measure(msgspec.Struct, frozen=True):
    """How much is told at most, in characters: of the messages of agent and handlers, and of each text that an
    extension has written; and how many of its substatuses."""

    message: int
    text: int
    substatuses: int


# All that may be said (extensions.md 9), and less as long as the whole is too large.
MEASURES = (
    Measure(4096, 10 * 1024, 512),
    Measure(1024, 1024, 512),
    Measure(512, 512, 64),
    Measure(64, 64, 8),
    Measure(16, 16, 0),
)


class Update(msgspec.Struct, frozen=True):
    """Whether the host's wish for a version of this agent is met; it is told only where the host manages versions."""

    succeeded: bool
    message: str


class Facts(msgspec.Struct, frozen=True):
    """All that a status tells but the time; two that are equal need no second upload."""

    machine: Machine
    host_name: str
    adopted: Adopted | None
    features: tuple[str, ...]
    update: Update | None = None


def document(facts: Facts, wall: float, clean: Clean) -> bytes:
    """The document at the wall time `wall` (seconds since 1970); `clean` takes secrets out of a text."""
    encoded = b""
    for measure in MEASURES:
        # To take the secrets out of all of it takes ten times as long as to see that it is too large.
        if measure is MEASURES[-1] or _size_in_ascii(_encoded(facts, wall, str, measure)) <= MOST_BYTES:
            encoded = _ascii(_encoded(facts, wall, clean, measure))
            if len(encoded) <= MOST_BYTES:
                break
    return encoded


def _encoded(facts: Facts, wall: float, clean: Clean, measure: Measure) -> bytes:
    return msgspec.json.encode(_Telling(utc(wall), clean, measure).whole(facts))


def utc(wall: float) -> str:
    """The wall time (seconds since 1970) as YYYY-MM-DDTHH:MM:SSZ."""
    return f"{stamp(wall)[:19]}Z"


class _Telling:
    """One telling of facts, by one measure."""

    def __init__(self, now: str, clean: Clean, measure: Measure) -> None:
        self._now = now
        self._clean = clean
        self._measure = measure

    def whole(self, facts: Facts) -> dict[str, Any]:
        adopted = facts.adopted
        handlers = adopted.handlers if adopted is not None else ()
        aggregate: dict[str, Any] = {
            "guestAgentStatus": self._agent(facts),
            "handlerAggregateStatus": [self._handler(each) for each in handlers],
        }
        if adopted is not None and adopted.outcome is not None:
            goal_state = self._goal_state(adopted, adopted.outcome)
            aggregate["vmArtifactsAggregateStatus"] = {"goalStateAggregateStatus": goal_state}
        told: dict[str, Any] = {
            "version": VERSION,
            "timestampUTC": self._now,
            "aggregateStatus": aggregate,
            "guestOSInfo": {
                "computerName": facts.host_name,
                "osName": facts.machine.name,
                "osVersion": facts.machine.version,
                "version": AGENT_VERSION,
            },
        }
        if facts.features:
            told["supportedFeatures"] = [{"Key": name, "Value": "1.0"} for name in facts.features]
        return told

    def _agent(self, facts: Facts) -> dict[str, Any]:
        told: dict[str, Any] = {
            "version": AGENT_VERSION,
            # A VM of which the provisioning has failed has no goal state in force, and uploads nothing.
            "status": "Ready",
            "formattedMessage": self._message(f"Guest Agent is running ({OWN_NAME})"),
        }
        if facts.update is not None:
            told["updateStatus"] = {
                "expectedVersion": AGENT_VERSION,
                "status": "Success" if facts.update.succeeded else "Error",
                "code": 0 if facts.update.succeeded else 1,
                "formattedMessage": self._message(facts.update.message),
            }
        return told

    def _handler(self, handler: HandlerStatus) -> dict[str, Any]:
        told: dict[str, Any] = {
            "handlerVersion": handler.version,
            "handlerName": handler.name,
            "status": handler.status,
            "code": handler.code,
            "useExactVersion": True,
        }
        if handler.message:
            told["formattedMessage"] = self._message(handler.message)
        if handler.sequence_number is not None:
            told["runtimeSettingsStatus"] = self._settings(handler, handler.sequence_number)
        return told

    def _settings(self, handler: HandlerStatus, number: int) -> dict[str, Any]:
        told: dict[str, Any] = {"sequenceNumber": number}
        if handler.extension:
            told["extensionName"] = handler.extension
        status = self._own_words(handler) if handler.settings is None else self._extension(handler, handler.settings)
        told["settingsStatus"] = {"version": 1.0, "timestampUTC": self._now, "status": status}
        return told

    def _own_words(self, handler: HandlerStatus) -> dict[str, Any]:
        """The agent's, where the extension was not asked."""
        return {
            "name": handler.extension or handler.name,
            "configurationAppliedTime": None,
            "operation": "Enabling",
            "status": SETTINGS_WORDS[handler.status],
            "code": handler.code,
            "formattedMessage": self._message(handler.message),
        }

    def _extension(self, handler: HandlerStatus, said: ExtensionStatus) -> dict[str, Any]:
        told: dict[str, Any] = {
            "name": self._text(said.name) or handler.extension or handler.name,
            "configurationAppliedTime": self._text(said.configuration_applied_time) or None,
            "operation": self._text(said.operation) or None,
            "status": said.status,
            "code": said.code,
            "formattedMessage": {"lang": self._text(said.language) or "en-US", "message": self._text(said.message)},
        }
        parts = said.substatuses[: self._measure.substatuses]
        if parts:
            told["substatus"] = [self._substatus(each) for each in parts]
        return told

    def _substatus(self, said: Substatus) -> dict[str, Any]:
        return {
            "name": self._text(said.name),
            "status": said.status,
            "code": said.code,
            "formattedMessage": {"lang": "en-US", "message": self._text(said.message)},
        }

    def _goal_state(self, adopted: Adopted, outcome: Outcome) -> dict[str, Any]:
        number = adopted.reported_sequence_number
        return {
            "formattedMessage": self._message(outcome.message),
            "timestampUTC": utc(outcome.ended_s),
            # vmSettings has a number there, ExtensionsConfig an incarnation, which is a text.
            "inSvdSeqNo": int(number) if adopted.etag and number.isdecimal() else number,
            "status": "Success" if outcome.code == OK else "Failed",
            "code": outcome.code,
        }

    def _message(self, text: str) -> dict[str, str]:
        return {"lang": "en-US", "message": self._cut(text, self._measure.message)}

    def _text(self, text: str) -> str:
        """Of an extension's own."""
        return self._cut(text, self._measure.text)

    def _cut(self, text: str, characters: int) -> str:
        cleaned = self._clean(text[: characters + _LOOKED_AT_BEYOND]) if text else ""
        is_whole = len(text) <= characters + _LOOKED_AT_BEYOND and len(cleaned) <= characters
        return cleaned if is_whole else f"{cleaned[:characters]}{CUT}"


def _ascii(encoded: bytes) -> bytes:
    """JSON with everything beyond ASCII escaped: it stands in strings only. The host counts characters as bytes."""
    if encoded.isascii():
        return encoded
    return _BEYOND_ASCII.sub(_escaped, encoded.decode()).encode("ascii")


def _size_in_ascii(encoded: bytes) -> int:
    """The length of what `_ascii` would make of it."""
    text = encoded.decode()
    plain = len(text.encode("ascii", "ignore"))
    return plain + 6 * (len(_units(text)) - plain)


def _escaped(run: re.Match[str]) -> str:
    return "".join(f"\\u{unit:04x}" for unit in _units(run[0]))


def _units(text: str) -> memoryview:
    """In UTF-16, without the mark at its beginning; the codecs of either order are modules, and are not loaded here."""
    return memoryview(text.encode("utf-16")[2:]).cast("H")
