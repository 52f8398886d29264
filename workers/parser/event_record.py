# SPDX-License-Identifier: Apache-2.0
"""Owns one event in the form that old extensions leave (wire-protocol.md 11), JSON or XML: its bytes to what is sent.

Runs in the parser. Of all its parameters six count; whose machine it is about the agent says itself.
"""

from typing import Any

import msgspec

from ipc.errors import InputError
from ipc.messages import EventRecord
from workers.parser import redaction, xml
from workers.parser.answer import fitting
from workers.parser.bounds import MAX_RECORD_BYTES
from workers.parser.json_document import UTF8_MARK, decode

MAX_MESSAGE = 3072
MAX_TEXT = 1024
# What is looked at of a text before tokens are taken out of it and it is cut.
_LOOKED_AT = 4 * MAX_MESSAGE
MAX_DURATION_MS = 2**53
# The only table that extensions have ever written to.
EVENT_ID = "1"


class _Parameter(msgspec.Struct):
    name: str
    value: Any


class _Json(msgspec.Struct):
    event_id: int = msgspec.field(name="eventId")
    parameters: list[_Parameter]


def parse(document: bytes) -> EventRecord:
    """Raises InputError for what is no such event."""
    if len(document) > MAX_RECORD_BYTES:
        raise InputError("document", f"is {len(document)} bytes long, more than the {MAX_RECORD_BYTES} allowed")
    is_xml = document.removeprefix(UTF8_MARK).lstrip().startswith(b"<")
    event_id, given = _of_xml(document) if is_xml else _of_json(document)
    if event_id != EVENT_ID:
        raise InputError("event", f"is of table {event_id[:32]}, not {EVENT_ID}")
    record = EventRecord(
        name=_text(given, "Name")[:MAX_TEXT],
        version=_text(given, "Version")[:MAX_TEXT],
        operation=_text(given, "Operation")[:MAX_TEXT],
        succeeded=_text(given, "OperationSuccess").lower() == "true",
        message=_text(given, "Message")[:MAX_MESSAGE],
        duration_ms=_duration(_text(given, "Duration")),
    )
    if not record.name:
        raise InputError("Name", "is missing: nobody could tell whose event it is")
    return fitting(record)


def _of_json(document: bytes) -> tuple[str, dict[str, Any]]:
    read = decode(document, _Json, MAX_RECORD_BYTES)
    return str(read.event_id), {each.name: each.value for each in read.parameters}


def _of_xml(document: bytes) -> tuple[str, dict[str, Any]]:
    root = xml.parse(xml.as_utf8(document, MAX_RECORD_BYTES), namespaces=False)
    event = root if root.name == "Event" else root.first("Event")
    if event is None:
        raise InputError("Event", "is missing")
    found = (each.attributes for each in root.all("Param"))
    return event.attributes.get("id", ""), {each["Name"]: each.get("Value", "") for each in found if "Name" in each}


def _text(given: dict[str, Any], name: str) -> str:
    match given.get(name):
        case str(text):
            return redaction.without_tokens(text.strip()[:_LOOKED_AT])
        case bool(truth):
            return str(truth)
        case int(number) | float(number):
            return f"{number}"[:MAX_TEXT]
        case None:
            return ""
    raise InputError(name, "is no text")


def _duration(text: str) -> int:
    """Milliseconds; 0 for what is none."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 16 else 0
    return min(number, MAX_DURATION_MS)
