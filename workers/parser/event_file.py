# SPDX-License-Identifier: Apache-2.0
"""Owns a file of events that an extension has left (extensions.md 11): its bytes to what may be sent of them.

Runs in the parser. One event that is none is dropped, with the reason counted; a file that is no JSON is refused.
"""

from collections import Counter
from typing import Any

import msgspec

from ipc.codec import MAX_FRAME_BYTES
from ipc.errors import InputError
from ipc.messages import Dropped, ExtensionEvent, ExtensionEvents
from workers.parser import redaction
from workers.parser.answer import fitting
from workers.parser.bounds import MAX_EVENTS_BYTES
from workers.parser.json_document import decode

MAX_EVENTS = 360
# Of a list, so many entries are looked at: what is no event costs as much time as one.
MAX_ENTRIES = 20 * MAX_EVENTS
MAX_MESSAGE = 3072
MAX_ALL_TEXT = 6144
MAX_TEXT = 1024
# What is looked at of a text before tokens are taken out of it and it is cut.
_LOOKED_AT = 4 * MAX_MESSAGE
# Key in lower case -> field.
FIELDS = {
    "version": "version", "timestamp": "timestamp", "taskname": "task_name", "eventlevel": "level",
    "message": "message", "eventpid": "pid", "eventtid": "tid", "operationid": "operation_id",
}  # fmt: skip
NUMBERS_TOO = ("eventpid", "eventtid")
# Left free in a frame for what is around the events.
_ENVELOPE_BYTES = 8192


def parse(document: bytes, first: int = 0) -> ExtensionEvents:
    """The events from number `first` on. Raises InputError for what is no event, nor a list of such."""
    read = decode(document, Any, MAX_EVENTS_BYTES)
    found = [read] if isinstance(read, dict) else read
    if not isinstance(found, list):
        raise InputError("document", "is neither an event nor a list of events")
    left, events, dropped, following = MAX_FRAME_BYTES - _ENVELOPE_BYTES, list[ExtensionEvent](), Counter[str](), None
    for number in range(first, len(found)):
        if len(events) == MAX_EVENTS:
            dropped[f"file: has more than {MAX_EVENTS} events"] = len(found) - number
            break
        if number - first == MAX_ENTRIES:
            dropped[f"file: has more than {MAX_ENTRIES} entries"] = len(found) - number
            break
        try:
            event = _event(found[number])
        except InputError as error:
            dropped[str(error)] += 1
            continue
        left -= len(msgspec.msgpack.encode(event))
        if left < 0:
            following = number
            break
        events.append(event)
    reasons = tuple(Dropped(reason, count) for reason, count in dropped.items())
    return fitting(ExtensionEvents(tuple(events), reasons, following))


def _event(found: Any) -> ExtensionEvent:
    """One event. Raises InputError for what makes it none."""
    if not isinstance(found, dict):
        raise InputError("event", "is no object")
    given = {key.lower(): value for key, value in found.items() if key.lower() in FIELDS}
    texts = {field: _text(given, key) for key, field in FIELDS.items()}
    texts["message"] = texts["message"][:MAX_MESSAGE]
    if not texts["message"]:
        raise InputError("Message", "is empty")
    if sum(map(len, texts.values())) > MAX_ALL_TEXT:
        raise InputError("event", f"has more than {MAX_ALL_TEXT} characters")
    if any(len(text) > MAX_TEXT for field, text in texts.items() if field != "message"):
        raise InputError("event", f"has a text of more than {MAX_TEXT} characters beside its message")
    return ExtensionEvent(**texts)


def _text(given: dict[str, Any], key: str) -> str:
    match given.get(key):
        case str(text):
            return redaction.without_tokens(text.strip()[:_LOOKED_AT])
        case int(number) if key in NUMBERS_TOO and not isinstance(number, bool):
            return f"{number}"[:MAX_TEXT]
        case None:
            raise InputError(key, "is missing")
    raise InputError(key, "is no text")
