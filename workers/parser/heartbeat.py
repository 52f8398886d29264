# SPDX-License-Identifier: Apache-2.0
"""Owns a handler's heartbeat file (extensions.md 9): its bytes to a typed `Heartbeat`; runs in the parser."""

from typing import Any

from ipc.errors import InputError
from ipc.messages import Heartbeat
from workers.parser import told
from workers.parser.answer import fitting
from workers.parser.json_document import decode


def parse(document: bytes) -> Heartbeat:
    """Raises InputError that names the key."""
    every = decode(document, Any)
    first = every[0] if isinstance(every, list) and every else None
    found = first.get("heartbeat") if isinstance(first, dict) else None
    if not isinstance(found, dict):
        raise InputError("document", "is no list that begins with an object that has a heartbeat")
    status = found.get("status")
    if not isinstance(status, str) or not status:
        raise InputError("heartbeat.status", "is missing or no text")
    _, message = told.formatted(found.get("formattedMessage"), "heartbeat.formattedMessage")
    return fitting(Heartbeat(told.text(status, told.MAX_TEXT), told.number(found.get("code")), message))
