# SPDX-License-Identifier: Apache-2.0
"""The attempts of a taken-over worker on its supervisor, by way of the channel.

Runs in the worker. An attack that comes back has had its say; the worker then ends without an answer.
"""

import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack
import zmq

from ipc.channel import Channel
from ipc.codec import encode
from ipc.descriptors import sealed_memfd, send_packet
from ipc.messages import PlaceKeys, SetPassword, Versions, WorkerReady
from ipc.pair import ZmqChannel
from ipc.secret import Secret
from tests.abuse.target import Target

OWN_SOCKET = "/channel/s"
BODY = {"preferred": "x", "supported": []}
FLOOD = 100_000
PART = 100 * 1024


def zmq_of(channel: Channel) -> ZmqChannel:
    if not isinstance(channel, ZmqChannel):
        raise TypeError("not a ZeroMQ worker")
    return channel


def sends(make: Callable[[], bytes]) -> Callable[[Target], None]:
    """Send bytes as they are; then wait for what comes of it."""

    def attack(target: Target) -> None:
        zmq_of(target.channel).pair.send(make())
        wait_for_the_end()

    return attack


def wait_for_the_end() -> None:
    """Whoever is killed for what it did does not come back from here; after a second it ends by itself."""
    select.poll().poll(1000)


def frame(sequence: int = 1, name: object = "Versions", body: object = None, *more: object) -> bytes:
    packed: bytes = msgpack.packb([1, sequence, name, BODY if body is None else body, 0, *more])
    return packed


def deep() -> bytes:
    return b"\x95\x01\x01\xa8Versions" + b"\x91" * 100_000 + b"\x00\x00"


def twice_a_key() -> bytes:
    return b"\x95\x01\x01\xa8Versions\x82\xa9preferred\xa1x\xa9preferred\xa1y\x00"


def message_of_another(target: Target) -> None:
    target.channel.send(SetPassword("root", Secret("x")))
    wait_for_the_end()


def permitted_one(target: Target) -> None:
    target.channel.send(Versions("x", ()))
    wait_for_the_end()


def ready_again(target: Target) -> None:
    target.channel.send(WorkerReady())
    wait_for_the_end()


def replays(target: Target) -> None:
    """The frame with which it said that it is ready, once more."""
    zmq_of(target.channel).pair.send(encode(WorkerReady(), 0))
    wait_for_the_end()


def answers_and_goes_on(target: Target) -> None:
    target.channel.send(Versions("x", ()))
    for number in range(1000):
        zmq_of(target.channel).pair.send(frame(number), zmq.NOBLOCK if number > 50 else 0)


def in_parts(target: Target) -> None:
    zmq_of(target.channel).pair.send_multipart([frame(), frame()])
    wait_for_the_end()


def oversized(target: Target) -> None:
    """libzmq cuts the connection; what the worker does then is its own affair, until its time is over."""
    zmq_of(target.channel).pair.send(b"x" * (1 << 24))
    select.poll().poll(200)
    os._exit(3)


def floods(target: Target) -> None:
    """As many frames as go out within its life, none of which is any good."""
    pair = zmq_of(target.channel).pair
    for _ in range(FLOOD):
        pair.send(b"\xc0" * 1000)


def floods_with_permitted(target: Target) -> None:
    for _ in range(FLOOD):
        target.channel.send(PlaceKeys("user", "/home/user", ".ssh/authorized_keys", ("x" * 2000,)))


def floods_with_descriptors(target: Target) -> None:
    file = sealed_memfd("x", b"")
    for _ in range(FLOOD):
        target.channel.send(PlaceKeys("user", "/home/user", ".ssh/authorized_keys", ("x",)), (file,) * 4)


def floods_the_log(_: Target) -> None:
    for number in range(FLOOD):
        os.write(2, b"%d %s\n" % (number, b"x" * 100))
    os.write(2, b"x" * 1_000_000)
    os._exit(3)


def floods_beside(target: Target) -> None:
    """Descriptors that nobody asked for, until the socket takes no more."""
    file = sealed_memfd("x", b"")
    try:
        for _ in range(FLOOD):
            send_packet(zmq_of(target.channel)._beside, b"x" * 8, (file,) * 8)
    finally:
        permitted_one(target)


def announces(announced: int, sent: int) -> Callable[[Target], None]:
    """`sent` descriptors where `announced` are said to come."""

    def attack(target: Target) -> None:
        channel = zmq_of(target.channel)
        file = sealed_memfd("x", b"")
        if sent:
            send_packet(channel._beside, (1).to_bytes(8, "little"), (file,) * sent)
        channel.pair.send(msgpack.packb([1, 1, "Versions", BODY, announced]))
        wait_for_the_end()

    return attack


def one_message_without_end(target: Target) -> None:
    """Part after part of one message, past the worker's own libzmq, straight into the connection.

    The word that may follow says after how many MiB it ends after all."""
    connection = connection_of(zmq_of(target.channel))
    part = b"\x03" + PART.to_bytes(8, "big") + b"x" * PART
    for _ in range((int(target.words[0]) << 20) // PART if target.words else FLOOD):
        write_all(connection, part)
    write_all(connection, b"\0\0")
    wait_for_the_end()


def connection_of(channel: ZmqChannel) -> int:
    """The descriptor of libzmq's connection: of the worker's sockets the one that is not beside it."""
    for descriptor in range(3, 64):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode) and descriptor != channel._beside.fileno():
                return descriptor
    raise RuntimeError("no connection")


def write_all(connection: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(connection, view) :]
        except BlockingIOError:
            poller = select.poll()
            poller.register(connection, select.POLLOUT)
            poller.poll()


def attaches_two(target: Target) -> None:
    """Descriptors that its message does not carry."""
    target.channel.send(Versions("x", ()), (0, 1))
    wait_for_the_end()


ATTACKS: dict[str, Callable[[Target], None]] = {
    "unknown_message": sends(lambda: frame(name="FormatDisk")),
    "unknown_field": sends(lambda: frame(body=BODY | {"more": 1})),
    "mistyped_field": sends(lambda: frame(body=BODY | {"preferred": 1})),
    "name_of_a_number": sends(lambda: frame(name=7)),
    "one_element_more": sends(lambda: frame(1, "Versions", BODY, 7)),
    "trailing_bytes": sends(lambda: frame() + b"\xc0"),
    "twice_a_key": sends(twice_a_key),
    "extension_type": sends(lambda: frame(body=msgpack.ExtType(1, b"x"))),
    "timestamp": sends(lambda: frame(body=msgpack.Timestamp(1))),
    "not_a_number": sends(lambda: frame(body=BODY | {"preferred": float("nan")})),
    "bad_utf8": sends(lambda: frame().replace(b"\xa1x", b"\xa1\xff")),
    "deep_nesting": sends(deep),
    "huge_array": sends(lambda: b"\x95\x01\x01\xa8Versions\xdd\xff\xff\xff\xff"),
    "huge_text": sends(lambda: b"\x95\x01\x01\xdb\xff\xff\xff\xff"),
    "nothing": sends(lambda: b""),
    "garbage": sends(lambda: bytes(range(256)) * 100),
    "later_sequence": sends(lambda: frame(5)),
    "negative_sequence": sends(lambda: frame(-1)),
    "oversized": oversized,
    "in_parts": in_parts,
    "replay": replays,
    "ready_again": ready_again,
    "message_of_another": message_of_another,
    "permitted_one": permitted_one,
    "answers_and_goes_on": answers_and_goes_on,
    "floods": floods,
    "floods_with_permitted": floods_with_permitted,
    "floods_with_descriptors": floods_with_descriptors,
    "floods_the_log": floods_the_log,
    "floods_beside": floods_beside,
    "announces_one_sends_none": announces(1, 0),
    "announces_one_sends_two": announces(1, 2),
    "announces_four_sends_nine": announces(4, 9),
    "announces_five": announces(5, 5),
    "announces_many": announces(253, 4),
    "attaches_two": attaches_two,
    "one_message_without_end": one_message_without_end,
}


def answers_before_it_is_ready(channel: Channel, _: Callable[[], None]) -> None:
    channel.send(Versions("x", ()))
    wait_for_the_end()


def greets_by_half(_: Channel, __: Callable[[], None]) -> None:
    """A connection beside its own that begins a greeting and never ends it."""
    _HELD.append(socket.socket(socket.AF_UNIX))
    _HELD[-1].connect(OWN_SOCKET)
    _HELD[-1].send(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03")


def greets_with_nonsense(_: Channel, __: Callable[[], None]) -> None:
    for piece in (
        b"\xff" * 64,
        b"\xff" + bytes(8) + b"\x7f" + b"\x09" * 54,
        b"\xff" + bytes(8) + b"\x7f\x03\0PLAIN" + bytes(60),
    ):
        _HELD.append(socket.socket(socket.AF_UNIX))
        _HELD[-1].connect(OWN_SOCKET)
        _HELD[-1].send(piece)


def greets_as_of_old(_: Channel, __: Callable[[], None]) -> None:
    """ZMTP's first version: no names, no mechanism; a greeting by length, then a frame."""
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(OWN_SOCKET)
    peer.send(b"\x01\0" + b"\x06\0hello")
    wait_for_the_end()


def connects_twice(_: Channel, __: Callable[[], None]) -> None:
    """A second PAIR at its own endpoint, which talks, too."""
    pair = zmq.Context(io_threads=1).socket(zmq.PAIR)
    pair.connect(f"ipc://{OWN_SOCKET}")
    pair.send(frame(0, "Versions"), zmq.NOBLOCK)
    _HELD.append(pair)


def says_nothing(_: Channel, __: Callable[[], None]) -> None:
    os._exit(0)


# Sockets that an early attack keeps open while the worker goes on.
_HELD: list[Any] = []
EARLY: dict[str, Callable[[Channel, Callable[[], None]], None]] = {
    "answers_before_it_is_ready": answers_before_it_is_ready,
    "greets_by_half": greets_by_half,
    "greets_with_nonsense": greets_with_nonsense,
    "connects_twice": connects_twice,
    "greets_as_of_old": greets_as_of_old,
    "says_nothing": says_nothing,
}
