# SPDX-License-Identifier: Apache-2.0
"""What crosses a process boundary under fuzz: msgpack frames, every message type, fixed records, ZMTP.

Each attempt gives an input's outcome in a word, or raises: then it is a finding.
"""

import random
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec

from ipc import codec, records
from ipc.errors import MalformedMessage
from ipc.messages import Message
from supervisor import verbs
from tests.fabric.vocabulary import BY_NAME
from tests.fuzz import shapes
from tests.fuzz.byte_mutations import mutate
from tests.fuzz.zmtp_peer import zmtp

SEED = 20261124
Attempt = Callable[[int], str]
# What begins things in msgpack, with the lengths that hurt.
TOKENS = (
    b"\xc0", b"\xc1", b"\xc4\xff", b"\xc6\xff\xff\xff\xff", b"\xc7\0\x01", b"\xc9\xff\xff\xff\xff\x01",
    b"\xca\x7f\xc0\0\0", b"\xcb\x7f\xf8\0\0\0\0\0\0", b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7),
    b"\xd4\x01x", b"\xd6\xff\0\0\0\0", b"\xd9\xff", b"\xdb\xff\xff\xff\xff", b"\xdc\xff\xff",
    b"\xdd\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x90", b"\x80", b"\x91" * 600,
    b"\x81\xa1x" * 600, b"\xa1\xff", b"\xe0",
)  # fmt: skip


class Broken(AssertionError):
    """A reader gave an answer that it must never give."""


def draw_for(name: str, number: int) -> random.Random:
    """The chance of input `number` of the target `name`, the same in every run."""
    return random.Random(f"{SEED} {name} {number}")


def _heard(frame: bytes) -> str:
    """What the codec says to `frame`; what it takes must be a message that can be handed on."""
    try:
        decoded = codec.decode(frame)
    except MalformedMessage as refused:
        return _bounded(str(refused))
    _check(decoded.message)
    return "accepted"


def _check(message: Message) -> None:
    """It is what its type says, and the other side takes it for the same."""
    if BY_NAME.get(type(message).__name__) is not type(message):
        raise Broken(f"{type(message).__name__} came out")
    # Types are checked once more, from plain data: nothing that they forbid is in it.
    msgspec.convert(msgspec.to_builtins(message), type(message), strict=True)
    again = codec.decode(codec.encode(message, 7, 3))
    if (again.message, again.sequence, again.descriptors) != (message, 7, 3):
        raise Broken("it is another message on the other side")


def _bounded(text: str) -> str:
    if len(text) > 400:
        raise Broken(f"a refusal of {len(text)} characters")
    return text


def _msgpack(name: str) -> Attempt:
    def attempt(number: int) -> str:
        draw = draw_for(name, number)
        frame = codec.encode(shapes.message(draw), draw.choice((0, 1, 99)), draw.randrange(5))
        return _heard(mutate(frame, TOKENS, draw) if number % 16 else frame)

    return attempt


def _messages(name: str) -> Attempt:
    """Every eighth as its type wants it: that one has to go through. The others are spoilt, one thing in each."""

    def attempt(number: int) -> str:
        draw = draw_for(name, number)
        kind = draw.choice(list(shapes.SHAPES))
        content = shapes.fields(shapes.SHAPES[kind], draw)
        if number % 8 == 0:
            message = msgspec.convert(content, BY_NAME[kind])
            try:
                codec.encode(message, 0)
            except MalformedMessage as large:
                return str(large)
            _check(message)
            return "accepted"
        shapes.spoil(content, draw)
        frame: list[Any] = [codec.VERSION, 0, kind, content, 0]
        if draw.random() < 0.1:
            frame[draw.randrange(5)] = draw.choice(shapes.ODD)
        return _heard(msgpack.packb(frame))

    return attempt


def _records(name: str) -> Attempt:
    """Orders and events of the spawner, requests at the control socket: one size, or refused."""

    def attempt(number: int) -> str:
        draw = draw_for(name, number)
        make, read, same = draw.choice(_RECORDS)
        record = make(draw)
        if number % 8 == 0 and not same(record):
            raise Broken("it is not what was packed")
        if number % 8:
            record = mutate(record, (records.MAGIC, verbs.MAGIC, b"parser", b"-", b"/"), draw)
        try:
            read(record)
        except MalformedMessage as refused:
            return _bounded(str(refused))
        if not same(record):
            raise Broken("packed again it is another record")
        return "accepted"

    return attempt


def _order(draw: random.Random) -> bytes:
    kind = "".join(draw.choices("abcxyz0189-", k=draw.randrange(32)))
    return records.pack_order(
        records.Order(draw.choice(list(records.Op)), draw.getrandbits(64), draw.getrandbits(32), kind)
    )


def _event(draw: random.Random) -> bytes:
    signed = [draw.getrandbits(31) for _ in range(3)]
    text = "".join(draw.choices("abc é€\0", k=draw.randrange(200)))
    event = records.Event(draw.choice(list(records.Happened)), draw.getrandbits(64), signed[0], signed[1], text=text)
    return records.pack_event(msgspec.structs.replace(event, missing=draw.getrandbits(32), cpu_us=draw.getrandbits(64)))


def _verb(draw: random.Random) -> bytes:
    verb = draw.choice(verbs.VERBS)
    name = "a" + "".join(draw.choices("abcXYZ019._/-", k=draw.randrange(64)))
    return verbs.pack(verb, name if verb.takes_name else "")


def _event_without_text(record: bytes) -> Any:
    return msgspec.structs.replace(records.unpack_event(record), text="")


_RECORDS: tuple[tuple[Callable[[random.Random], bytes], Callable[[bytes], Any], Callable[[bytes], bool]], ...] = (
    (_order, records.unpack_order, lambda record: records.pack_order(records.unpack_order(record)) == record),
    # Text is for people: what is no UTF-8 in it is replaced.
    (
        _event,
        records.unpack_event,
        lambda record: (
            _event_without_text(records.pack_event(records.unpack_event(record))) == _event_without_text(record)
        ),
    ),
    (_verb, verbs.unpack, lambda record: verbs.pack(*verbs.unpack(record)) == record),
)
TARGETS: dict[str, Callable[[str], Attempt]] = {
    "msgpack": _msgpack,
    "messages": _messages,
    "records": _records,
    "zmtp": zmtp,
}
# One input of these costs as much as so many of another.
COSTS = {"zmtp": 50}
