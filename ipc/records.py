# SPDX-License-Identifier: Apache-2.0
"""Owns the fixed-layout records between supervisor and spawner: the only bytes that the spawner ever reads.

No lengths, no nesting, no text that is interpreted: a record has one size or is refused.
"""

import enum
import struct

import msgspec

from ipc.errors import MalformedMessage

MAGIC = b"ASP1"
_ORDER = struct.Struct("<4sHHQI32s")
_EVENT = struct.Struct("<4sHHQiiIQIi160s")
ORDER_BYTES = _ORDER.size
EVENT_BYTES = _EVENT.size


class Op(enum.IntEnum):
    """What an order asks for."""

    START = 1
    KILL = 2
    ABORT = 3


class Happened(enum.IntEnum):
    """What an event tells."""

    STARTED = 1
    REFUSED = 2
    EXITED = 3


# A mechanism's bit in `Event.missing` is its place here: what the kernel or the machine could not give this process.
MECHANISMS = (
    "landlock",
    "landlock-net",
    "landlock-scope",
    "mdwe",
    "user-namespace",
    "memory-limit",
    "pids-limit",
    "cpu-limit",
    "pidfd",
)


class Order(msgspec.Struct, frozen=True):
    """Supervisor to spawner. START: descriptors are the worker's packet socket and its stderr; the others have none."""

    op: Op
    serial: int
    instance: int = 0
    kind: str = ""


class Event(msgspec.Struct, frozen=True):
    """Spawner to supervisor. STARTED carries the pidfd. `status` is a wait status; `missing` bits as in MECHANISMS.

    `companion` is the pid of the process that runs programs for the one that was started; 0: it has none."""

    what: Happened
    serial: int
    pid: int = 0
    status: int = 0
    missing: int = 0
    cpu_us: int = 0
    peak_kib: int = 0
    text: str = ""
    companion: int = 0


def pack_order(order: Order) -> bytes:
    """The record of `order`."""
    return _ORDER.pack(MAGIC, order.op, 0, order.serial, order.instance, order.kind.encode("ascii"))


def unpack_order(record: bytes) -> Order:
    """The order in `record`; MalformedMessage for anything that is not one."""
    if len(record) != ORDER_BYTES:
        raise MalformedMessage(f"order of {len(record)} bytes")
    magic, op, zero, serial, instance, kind = _ORDER.unpack(record)
    name, _, rest = kind.partition(b"\0")
    if magic != MAGIC or zero or op not in Op.__members__.values() or rest.strip(b"\0"):
        raise MalformedMessage("not an order")
    if not all(letter in b"abcdefghijklmnopqrstuvwxyz0123456789-" for letter in name):
        raise MalformedMessage("kind is not a name")
    return Order(Op(op), serial, instance, name.decode("ascii"))


def pack_event(event: Event) -> bytes:
    """The record of `event`; text beyond the field is cut."""
    text = event.text.encode("utf-8", "replace")[:160]
    return _EVENT.pack(
        MAGIC,
        event.what,
        0,
        event.serial,
        event.pid,
        event.status,
        event.missing,
        event.cpu_us,
        event.peak_kib,
        event.companion,
        text,
    )


def unpack_event(record: bytes) -> Event:
    """The event in `record`; MalformedMessage for anything that is not one."""
    if len(record) != EVENT_BYTES:
        raise MalformedMessage(f"event of {len(record)} bytes")
    magic, what, _, serial, pid, status, missing, cpu_us, peak_kib, companion, text = _EVENT.unpack(record)
    if magic != MAGIC or what not in Happened.__members__.values():
        raise MalformedMessage("not an event")
    words = text.rstrip(b"\0").decode("utf-8", "replace")
    return Event(Happened(what), serial, pid, status, missing, cpu_us, peak_kib, words, companion)


def missing_names(mask: int) -> tuple[str, ...]:
    """The mechanisms whose bits are set in `mask`."""
    return tuple(name for bit, name in enumerate(MECHANISMS) if mask >> bit & 1)


def missing_mask(names: tuple[str, ...]) -> int:
    """The mask of `names`, each one of MECHANISMS."""
    return sum(1 << MECHANISMS.index(name) for name in set(names))
