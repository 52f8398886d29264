# SPDX-License-Identifier: Apache-2.0
"""Owns a status file of an extension (extensions.md 9): its bytes to a typed `ExtensionStatus`; runs in the parser.

It refuses nothing: what is no status file is an error of that extension, 1012, which says why and quotes its beginning.
"""

import re
from typing import Any

import msgspec

from ipc.codec import MAX_FRAME_BYTES
from ipc.errors import InputError
from ipc.messages import ExtensionStatus, Substatus
from ipc.messages.extension_documents import StatusWord
from workers.parser import redaction, told
from workers.parser.answer import fitting
from workers.parser.bounds import MAX_DOCUMENT_BYTES
from workers.parser.json_document import decode

NO_STATUS_FILE = 1012
# What is no UTF-8 becomes three bytes for each of its own.
MOST_BYTES = 3 * MAX_DOCUMENT_BYTES
# A longer one is cut: its message, and its substatuses to so many characters together.
MAX_WHOLE_BYTES = 128 * 1024
MAX_MESSAGE_OF_A_LONG_ONE = 1024
MAX_SUBSTATUSES = 512
QUOTED = 2000
WORDS: tuple[StatusWord, ...] = ("transitioning", "warning", "error", "success")
# Left free in a frame for what is around the substatuses.
_ENVELOPE_BYTES = 1024
# Halves of a surrogate pair, which many a program writes for what was no text, and which no UTF-8 can hold.
_HALVES = re.compile(r"(\\\\|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})|\\ud[89a-f][0-9a-f]{2}", re.IGNORECASE)


def parse(document: bytes) -> ExtensionStatus:
    """Never raises for what the file holds."""
    written = document.decode(errors="replace")
    try:
        return fitting(_status(_read(written), is_long=len(document) > MAX_WHOLE_BYTES))
    except InputError as error:
        quoted = redaction.without_tokens(written[: 4 * QUOTED])[:QUOTED]
        problem = f"the status file is of no use: {str(error)[:QUOTED]}; it begins with: {quoted}"
        return fitting(ExtensionStatus("", "", "", "error", NO_STATUS_FILE, problem))


def _read(written: str) -> Any:
    """The JSON in it."""
    try:
        return decode(written.encode(), Any, MOST_BYTES)
    except InputError:
        return decode(_HALVES.sub(lambda found: found[1] or "\\ufffd", written).encode(), Any, MOST_BYTES)


def _status(found: Any, *, is_long: bool) -> ExtensionStatus:
    if not isinstance(found, list):
        raise InputError("document", "is no list")
    if not found:
        return ExtensionStatus("", "", "", "transitioning", 0, "the status file is a list without a status")
    said = found[0].get("status") if isinstance(found[0], dict) else None
    if not isinstance(said, dict):
        raise InputError("[0].status", "is missing or no object")
    if "status" not in said:
        raise InputError("[0].status.status", "is missing")
    most = MAX_MESSAGE_OF_A_LONG_ONE if is_long else told.MAX_FIELD
    language, message = told.formatted(said.get("formattedMessage"), "[0].status.formattedMessage", most)
    status = ExtensionStatus(
        name=told.text(said.get("name"), told.MAX_TEXT),
        operation=told.text(said.get("operation"), told.MAX_TEXT),
        configuration_applied_time=told.text(said.get("configurationAppliedTime"), told.MAX_TEXT),
        status=_word(said["status"]) or "error",
        code=told.number(said.get("code")),
        message=message,
        language=language or "en-US",
    )
    every = _substatuses(said.get("substatus"))
    kept = _kept(every, status, MAX_WHOLE_BYTES - len(message))
    return msgspec.structs.replace(status, substatuses=kept, dropped=len(every) - len(kept))


def _word(value: Any) -> StatusWord | None:
    return next((word for word in WORDS if word == value), None)


def _substatuses(found: Any) -> list[Substatus]:
    if found is None:
        return []
    if not isinstance(found, list):
        raise InputError("[0].status.substatus", "is no list")
    return [_substatus(each, f"[0].status.substatus[{at}]") for at, each in enumerate(found) if each is not None]


def _substatus(found: Any, where: str) -> Substatus:
    if not isinstance(found, dict):
        raise InputError(where, "is no object")
    status = _word(found.get("status"))
    if status is None:
        raise InputError(f"{where}.status", f"is none of {', '.join(WORDS)}")
    _, message = told.formatted(found.get("formattedMessage"), f"{where}.formattedMessage")
    return Substatus(told.text(found.get("name")), status, told.number(found.get("code")), message)


def _kept(every: list[Substatus], status: ExtensionStatus, characters: int) -> tuple[Substatus, ...]:
    """As many of them, from the first on, as fit into so many characters and into a frame."""
    kept = list[Substatus]()
    left = MAX_FRAME_BYTES - _ENVELOPE_BYTES - len(msgspec.msgpack.encode(status))
    for each in every[:MAX_SUBSTATUSES]:
        characters -= len(each.name) + len(each.message)
        left -= len(msgspec.msgpack.encode(each))
        if characters < 0 or left < 0:
            break
        kept.append(each)
    return tuple(kept)
