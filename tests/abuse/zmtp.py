# SPDX-License-Identifier: Apache-2.0
"""The attempts of a taken-over worker below the messages: bytes past its own libzmq, straight into the connection.

Runs in the worker. Whoever is not ended for it stays as it is, and silent, for longer than anyone should let it.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from ipc.channel import Channel
from ipc.codec import MAX_FRAME_BYTES
from tests.abuse.broker import connection_of, frame, write_all, zmq_of
from tests.abuse.target import Target

OWN_SOCKET = "/channel/s"
# Flags of a ZMTP frame.
MORE, LONG, COMMAND = 1, 2, 4
STAYS_MS = 20_000
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\0" + bytes(31)


def part(body: bytes, flags: int = 0) -> bytes:
    """One ZMTP frame as it should be."""
    return bytes((flags, len(body))) + body


def command(name: bytes, data: bytes = b"") -> bytes:
    return part(bytes((len(name),)) + name + data, COMMAND)


def sized(size: int, flags: int = LONG) -> bytes:
    """The beginning of a frame that says how long it is."""
    return bytes((flags,)) + size.to_bytes(8, "big")


def writes(data: bytes, times: int = 1) -> Callable[[Target], None]:
    """Write it, so many times, and stay."""

    def attack(target: Target) -> None:
        connection = connection_of(zmq_of(target.channel))
        for _ in range(times):
            write_all(connection, data)
        stay()

    return attack


def stay() -> None:
    select.poll().poll(STAYS_MS)
    os._exit(3)


def drips(target: Target) -> None:
    """A good frame, a byte at a time, and never the last one."""
    connection = connection_of(zmq_of(target.channel))
    for byte in part(frame())[:-1]:
        write_all(connection, bytes((byte,)))
        select.poll().poll(10)
    stay()


def hangs_up(target: Target) -> None:
    connection = connection_of(zmq_of(target.channel))
    os.close(connection)
    stay()


# What libzmq answers by cutting the connection.
CUT: dict[str, Callable[[Target], None]] = {
    "size_over_the_limit": writes(sized(MAX_FRAME_BYTES + 1)),
    "size_beyond_all": writes(sized((1 << 63) - 1)),
    "size_negative": writes(sized((1 << 64) - 1)),
    "command_over_the_limit": writes(sized(1 << 40, LONG | COMMAND)),
    "hangs_up": hangs_up,
}
# What it makes a message of, or passes over: the codec has the word, or the deadline.
TAKEN: dict[str, Callable[[Target], None]] = {
    "reserved_flags": writes(b"\xf8" + part(b"hello")[1:]),
    "second_greeting": writes(GREETING),
    "another_protocol": writes(b"GET / HTTP/1.1\r\nHost: 168.63.129.16\r\n\r\n" * 100),
    "empty_frames": writes(part(b""), 1000),
    "drips": drips,
    "half_a_frame": writes(sized(1000) + b"x" * 10),
    "unknown_command": writes(command(b"HELLO", b"x" * 100)),
    "ready_again": writes(command(b"READY", b"\x0bSocket-Type\0\0\0\x04PAIR")),
    "error_command": writes(command(b"ERROR", b"\x05sorry")),
    "subscribes": writes(command(b"SUBSCRIBE", b"x") + part(b"\x01topic"), 1000),
    "pings": writes(command(b"PING", b"\0\x0a" + b"context!"), 20_000),
    "ping_without_a_time": writes(command(b"PING")),
    "small_parts": writes(part(b"x", MORE), 100_000),
}
ATTACKS = {**{f"zmtp_{name}": attack for name, attack in (CUT | TAKEN).items()}}


# --- beside its own connection, before it says that it is ready ---------------------------------------------------


def _beside(pieces: Iterator[bytes], pause_ms: int = 0) -> Callable[[Channel, Callable[[], None]], None]:
    """A connection of its own making that writes `pieces`, as far as they are taken."""
    data = list(pieces)

    def attack(_: Channel, __: Callable[[], None]) -> None:
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(OWN_SOCKET)
        _HELD.append(peer)
        ends = time.monotonic() + 2
        try:
            for piece in data:
                peer.sendall(piece)
                select.poll().poll(pause_ms)
                if time.monotonic() > ends:
                    return
        except OSError:
            return

    return attack


_HELD: list[Any] = []
READY = command(b"READY", b"\x0bSocket-Type\0\0\0\x04PAIR")
EARLY: dict[str, Callable[[Channel, Callable[[], None]], None]] = {
    "greets_a_byte_at_a_time": _beside((bytes((byte,)) for byte in GREETING), 30),
    "greets_as_another_mechanism": _beside(iter([GREETING.replace(b"NULL\0", b"CURVE"), b"x" * 1000])),
    "greets_well_and_says_nothing": _beside(iter([GREETING])),
    "greets_well_and_talks_nonsense": _beside(iter([GREETING, b"\xff" * 1000])),
    "says_it_is_a_router": _beside(iter([GREETING, command(b"READY", b"\x0bSocket-Type\0\0\0\x06ROUTER")])),
    "shakes_hands_and_talks": _beside(iter([GREETING, READY, part(frame(0, "Versions"))]), 20),
    "shakes_hands_with_a_huge_part": _beside(iter([GREETING, READY, sized(1 << 62), b"x" * 1000]), 20),
}
