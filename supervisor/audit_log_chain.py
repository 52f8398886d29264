# SPDX-License-Identifier: Apache-2.0
"""Owns the form of the audit log: a line a record, each with the hash of the one before it; and of its head file.

Used by the supervisor, which writes them, and by `agent-supervisor log verify`. Pure: it touches no file.
"""

import re

import msgspec

from ipc.digest import sha256_hex
from supervisor.audit_log_entry import Entry

# What stands for the hash before the first record.
NOTHING = "0" * 64
LINE_BYTES = 4096
HEAD_SUFFIX = ".head"
HEAD_BYTES = 256
# A file that is complete is called after its last record, so that names sort as their contents follow.
_ROTATED = re.compile(r"-([0-9]{12})")
_HASH_AT = len(b',"hash":"') + 64 + len(b'"}\n')
_BEGINS = b'{"seq":'
_HEAD = re.compile(r"([0-9]{12}) ([0-9a-f]{64}) ([0-9]{12}) ([0-9a-f-]{36})\n")


class Record(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line as it is read back. `time` is UTC, `uptime` seconds since the machine's start; `seq` counts from 1.

    `hash` is SHA-256 over the line's bytes before `,"hash":`, and `prev` the hash of the line before it."""

    seq: int
    time: str
    uptime: float
    prev: str
    hash: str


class Head(msgspec.Struct, frozen=True):
    """What the head file says of the log: its last record, with which record it `begins`, in which `boot` that was."""

    seq: int
    hash: str
    begins: int
    boot: str


_decoder = msgspec.json.Decoder(Record)


def line(entry: Entry, seq: int, time: str, uptime: float, prev: str) -> tuple[bytes, str]:
    """The record of `entry`, newline included, and its hash."""
    told = msgspec.json.encode(entry)[1:-1]
    body = b'{"seq":%d,"time":"%s","uptime":%.3f,%s,"prev":"%s"' % (seq, time.encode(), uptime, told, prev.encode())
    digest = sha256_hex([body])
    return b'%s,"hash":"%s"}\n' % (body, digest.encode()), digest


def read(text: bytes) -> Record | None:
    """The record in a line with its newline; None for what `line` never makes. Its hash may be wrong."""
    if len(text) > LINE_BYTES or text[-_HASH_AT : -_HASH_AT + 9] != b',"hash":"':
        return None
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def is_begun(text: bytes) -> bool:
    """Whether a line without its end may be the beginning of a record, which a full disk or a power cut cut short."""
    return len(text) < LINE_BYTES and _BEGINS.startswith(text[: len(_BEGINS)])


def true_hash(text: bytes) -> str:
    """The hash that a line with these bytes has to have."""
    return sha256_hex([text[:-_HASH_AT]])


def head_line(head: Head) -> bytes:
    """The head file's content: always of the same length, so that it is replaced in place."""
    return f"{head.seq:012d} {head.hash} {head.begins:012d} {head.boot}\n".encode()


def read_head(text: bytes) -> Head | None:
    """What a head file says; None when it is none."""
    found = _HEAD.fullmatch(text.decode("ascii", "replace"))
    return None if found is None else Head(int(found[1]), found[2], int(found[3]), found[4])


def rotated_name(name: str, last: int) -> str:
    """What the log's file is called once it is complete; `last` is its last record."""
    return f"{name}-{last:012d}"


def last_of(name: str, log_name: str) -> int | None:
    """The last record of the complete file `name`; None when it is no such file of the log `log_name`."""
    found = _ROTATED.fullmatch(name.removeprefix(log_name)) if name.startswith(log_name) else None
    return None if found is None else int(found[1])
