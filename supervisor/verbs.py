# SPDX-License-Identifier: Apache-2.0
"""Owns the control socket's language: the fixed request record, the table of verbs, the form of an answer.

Shared by the supervisor's server and the commands. A record names a verb by its number; nothing else can be asked.
"""

import re
import struct
from typing import Literal

import msgspec

from ipc.errors import MalformedMessage

# magic, version, verb's number, argument (ASCII, filled up with zeros)
RECORD = struct.Struct("<4sHH64s")
MAGIC = b"AgSv"
VERSION = 1
# Below what a SEQPACKET socket takes with the kernel's default limits.
MAX_ANSWER_BYTES = 180 * 1024

_ARGUMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")


class Verb(msgspec.Struct, frozen=True):
    """One thing that can be asked. `right` read: root and the group; control: root outside every worker's cgroup."""

    number: int
    name: str
    right: Literal["read", "control"]
    takes_name: bool


PS = Verb(1, "ps", "read", False)
RUNNING_VERSION = Verb(2, "version", "read", False)
STOP_WORKER = Verb(3, "stop-worker", "control", True)
RESTART = Verb(4, "restart", "control", True)
STATUS = Verb(5, "status", "read", False)
RENEW_RULE = Verb(6, "renew-rule", "control", False)
GOAL_STATE = Verb(7, "goal-state", "read", False)
CERTIFICATES = Verb(8, "certificates", "read", False)
EXTENSIONS = Verb(9, "extensions", "read", False)
VERBS = (PS, RUNNING_VERSION, STOP_WORKER, RESTART, STATUS, RENEW_RULE, GOAL_STATE, CERTIFICATES, EXTENSIONS)


class Answer(msgspec.Struct, frozen=True):
    """One JSON packet. `data` is the verb's own; `cut` tells that entries were left out to keep within the limit."""

    status: Literal["ok", "refused", "failed"]
    text: str = ""
    cut: bool = False
    data: msgspec.Raw = msgspec.Raw(b"null")


def pack(verb: Verb, argument: str = "") -> bytes:
    """The record that asks for `verb`; ValueError for an argument that the server would not take."""
    if bool(argument) != verb.takes_name or (argument and not _ARGUMENT.fullmatch(argument)):
        raise ValueError(f"{verb.name} can't be asked with {argument!r}")
    return RECORD.pack(MAGIC, VERSION, verb.number, argument.encode("ascii"))


def unpack(record: bytes) -> tuple[Verb, str]:
    """The verb and its argument; MalformedMessage for anything that `pack` does not make."""
    if len(record) != RECORD.size:
        raise MalformedMessage(f"a record has {RECORD.size} bytes")
    magic, version, number, raw = RECORD.unpack(record)
    verb = next((verb for verb in VERBS if verb.number == number), None)
    if magic != MAGIC or version != VERSION or verb is None:
        raise MalformedMessage("not a record of this version, or an unknown verb")
    text = raw.rstrip(b"\0").decode("latin-1")
    if bool(text) != verb.takes_name or (text and not _ARGUMENT.fullmatch(text)):
        raise MalformedMessage(f"{verb.name} does not take this argument")
    return verb, text
