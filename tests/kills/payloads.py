# SPDX-License-Identifier: Apache-2.0
"""Owns a short name for bytes that a process is about to send or write: what they say, without what differs by chance.

Runs in the test; knows the vocabulary of messages, records and HTTP, and nothing of what provisioning does.
"""

import contextlib
import re

import msgspec

from ipc.errors import ProtocolViolation
from ipc.messages import CATALOGUE
from ipc.records import unpack_event, unpack_order
from supervisor.journal import HEAD, MAGIC

LONGEST_WORD = 8
_MESSAGE = re.compile("|".join(sorted(CATALOGUE, key=len, reverse=True)).encode())
_KIND = re.compile(rb"\xa4kind[\xa1-\xbf]([a-z][a-z-]*)")
_REQUEST = re.compile(rb"(GET|POST|PUT|HEAD|DELETE) (\S+) HTTP")
_STATE = re.compile(rb"<(State|SubStatus)>(\w+)<")
_PORT_AND_IDS = re.compile(r"(?:[0-9a-fA-F-]|%2D){8,}|\d+")


def plain(text: str) -> str:
    """`text` without numbers and ids that another run would not have."""
    return _PORT_AND_IDS.sub("N", text)


def spoken(payload: bytes) -> str:
    """What a message of whatever kind says; "bytes" for what is none of ours."""
    with contextlib.suppress(ProtocolViolation):
        order = unpack_order(payload)
        return f"{order.op.name} {order.kind}".strip()
    with contextlib.suppress(ProtocolViolation):
        return unpack_event(payload).what.name
    if request := _REQUEST.match(payload):
        states = [found[2].decode() for found in _STATE.finditer(payload)]
        return " ".join([request[1].decode(), plain(request[2].decode()), *states])
    if states := [found[2].decode() for found in _STATE.finditer(payload)]:
        return " ".join(["body", *states])
    if message := _MESSAGE.search(payload):
        kind = _KIND.search(payload)
        return f"{message[0].decode()} {kind[1].decode() if kind else ''}".strip()
    return "bytes"


def recorded(payload: bytes) -> str:
    """The journal's record in `payload`; else the word itself if it is a short one, else nothing."""
    if payload == MAGIC:
        return "new journal"
    with contextlib.suppress(msgspec.DecodeError, IndexError):
        body = msgspec.msgpack.decode(payload[HEAD.size :])
        if isinstance(body, dict) and "type" in body:
            return f"{body['type']} {body.get('step', '')}".strip()
    if len(payload) <= LONGEST_WORD and payload.strip().isalnum():
        return plain(payload.decode("ascii", "replace").strip())
    return ""
