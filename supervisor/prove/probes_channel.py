# SPDX-License-Identifier: Apache-2.0
"""Owns attempts on the supervisor by way of a worker's own channel: bytes, frames, descriptors that it must not take.

Runs in the attacking process; what becomes of them is told by the other end, supervisor/prove/counterpart.py.
"""

import os
import select
import socket
from array import array
from collections.abc import Callable

import msgpack

from ipc.channel import Channel, PacketChannel
from ipc.codec import encode
from ipc.descriptors import sealed_memfd
from ipc.messages import (
    CommitFailed,
    InputRefused,
    Message,
    PlanComplete,
    SetPassword,
    Verification,
    Versions,
    WorkerReady,
)
from ipc.secret import Secret
from supervisor.prove.attempt import Probe, Target
from supervisor.spawner.child import SIDE

# One well-formed message for whoever is permitted it, and for whoever is not.
SAMPLES: dict[str, Message] = {
    "Versions": Versions("x", ()),
    "SetPassword": SetPassword("root", Secret("x")),
    "Verification": Verification((), 1),
    "CommitFailed": CommitFailed("x", changed=False),
    "PlanComplete": PlanComplete(0),
    "InputRefused": InputRefused("x", "x"),
}
BODY = {"where": "x", "problem": "x"}
_WAIT_MS = 1500


def raw_frame(sequence: object = 1, name: object = "InputRefused", body: object = None, *more: object) -> bytes:
    """A frame of any content; as it stands it is an honest one, the second of its sender."""
    packed: bytes = msgpack.packb([1, sequence, name, BODY if body is None else body, 0, *more])
    return packed


def sends(make: Callable[[], bytes], times: int = 1) -> Probe:
    """Bytes as they are, past the codec; then it waits for what comes of them."""

    def probe(target: Target) -> None:
        for _ in range(times):
            _put(target.channel, make())
        _wait()

    return probe


def says(*sent: str) -> Probe:
    """Well-formed messages: those named, or the argument's where a name is that of an argument."""

    def probe(target: Target) -> None:
        for name in sent:
            _channel(target).send(SAMPLES[str(target.arguments.get(name, name))])
        _wait()

    return probe


def says_it_is_ready_again(target: Target) -> None:
    """WorkerReady, which it has said before."""
    _channel(target).send(WorkerReady())
    _wait()


def attaches(announced: int, sent: int) -> Probe:
    """`sent` descriptors with a message that says that it has `announced`."""

    def probe(target: Target) -> None:
        file = sealed_memfd("x", b"")
        frame = msgpack.packb([1, 1, "InputRefused", BODY, announced])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", (file,) * sent))] if sent else []
        side = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=os.dup(SIDE))
        if isinstance(target.channel, PacketChannel):
            side.sendmsg([frame], rights)
        else:
            if sent:
                side.sendmsg([(1).to_bytes(8, "little")], rights)
            _put(target.channel, frame)
        _wait()

    return probe


def sends_in_parts(target: Target) -> None:
    """One message of several parts, which only ZeroMQ knows."""
    channel = _channel(target)
    if not isinstance(channel, PacketChannel):
        channel.source.send_multipart([raw_frame(), raw_frame()])  # type: ignore[union-attr]
    _wait()


def greets_as_of_old(target: Target) -> None:
    """ZMTP's first version, which names nobody: a second connection to its own endpoint."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.connect(target.word("path"))
    peer.send(b"\x01\0" + b"\x06\0hello")
    _wait()
    peer.close()


def _deep() -> bytes:
    return b"\x95\x01\x01\xacInputRefused" + b"\x91" * 100_000 + b"\x00\x00"


def _twice_a_key() -> bytes:
    return b"\x95\x01\x01\xacInputRefused\x82\xa5where\xa1x\xa5where\xa1y\x00"


def _big() -> bytes:
    size = 155_000
    return b"\x95\x01\x01\xacInputRefused\x82\xa5where\xa1x\xa7problem\xc6" + size.to_bytes(4, "big") + bytes(size)


def _channel(target: Target) -> Channel:
    if target.channel is None:
        raise ValueError("this process has no channel")
    return target.channel


def _put(channel: Channel | None, frame: bytes) -> None:
    if isinstance(channel, PacketChannel):
        os.write(SIDE, frame)
    elif channel is not None:
        channel.source.send(frame)  # type: ignore[union-attr]


def _wait() -> None:
    """Whoever is killed for what it did does not come back from here."""
    select.poll().poll(_WAIT_MS)


PROBES: dict[str, Probe] = {
    "sends-an-unknown-message": sends(lambda: raw_frame(name="FormatDisk")),
    "sends-an-unknown-field": sends(lambda: raw_frame(body=BODY | {"more": 1})),
    "sends-a-mistyped-field": sends(lambda: raw_frame(body=BODY | {"where": 1})),
    "sends-a-number-as-name": sends(lambda: raw_frame(name=7)),
    "sends-an-element-more": sends(lambda: raw_frame(1, "InputRefused", BODY, 7)),
    "sends-trailing-bytes": sends(lambda: raw_frame() + b"\xc0"),
    "sends-a-key-twice": sends(_twice_a_key),
    "sends-an-extension-type": sends(lambda: raw_frame(body=msgpack.ExtType(1, b"x"))),
    "sends-not-a-number": sends(lambda: raw_frame(body=BODY | {"where": float("nan")})),
    "sends-bad-utf8": sends(lambda: raw_frame().replace(b"\xa1x", b"\xa1\xff", 1)),
    "sends-deep-nesting": sends(_deep),
    "announces-a-huge-array": sends(lambda: b"\x95\x01\x01\xacInputRefused\xdd\xff\xff\xff\xff"),
    "announces-a-huge-text": sends(lambda: b"\x95\x01\x01\xdb\xff\xff\xff\xff"),
    "sends-a-big-field": sends(_big),
    "sends-garbage": sends(lambda: bytes(range(256)) * 100),
    "sends-an-oversized-frame": sends(lambda: b"x" * (200 * 1024)),
    "floods": sends(lambda: b"\xc0" * 1000, 50),
    "skips-numbers": sends(lambda: raw_frame(5)),
    "goes-back": sends(lambda: raw_frame(-1)),
    "replays": sends(lambda: encode(WorkerReady(), 0)),
    "sends-in-parts": sends_in_parts,
    "greets-as-of-old": greets_as_of_old,
    "says-anothers": says("foreign"),
    "says-its-own": says("own"),
    "says-its-own-twice": says("InputRefused", "InputRefused"),
    "says-it-is-ready-again": says_it_is_ready_again,
    "announces-one-sends-none": attaches(1, 0),
    "announces-one-sends-two": attaches(1, 2),
    "announces-none-sends-two": attaches(0, 2),
    "announces-many": attaches(253, 4),
}
BEFORE_IT_IS_READY = frozenset({"greets-as-of-old"})
