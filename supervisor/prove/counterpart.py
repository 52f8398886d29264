# SPDX-License-Identifier: Apache-2.0
"""Owns the other end of an attacker's channel: the supervisor's own loop, table and worker, and what they made of it.

Runs in a fork of a lane, one for each attempt: a ZeroMQ context must not live in a process that forks. The plain one
believes everything: it shows what the checks are there for.
"""

import os
import select
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import zmq

from ipc import pair
from ipc.channel import Channel, PacketChannel
from ipc.descriptors import close_all
from policy.profile import Profile, Request
from supervisor.clock import SystemClock
from supervisor.dispatch import PHASES, Phase, Table
from supervisor.jail import capabilities
from supervisor.loop import Loop, TimedOut
from supervisor.worker import Worker, WorkerViolation

# How long an attacker may take to begin, and to go on.
START_S, QUIET_S = 6.0, 0.6
_MOST_BYTES = 1 << 20


class Line(msgspec.Struct, frozen=True):
    """Our ends of one channel; `listener` for ZeroMQ alone, it listens at `path`; `uid` is who may connect."""

    side: socket.socket
    listener: socket.socket | None
    path: str
    uid: int


def hear(line: Line, judge: Callable[[Line], str]) -> tuple[int, int]:
    """Fork a counterpart; the descriptor by which it will tell, in one line, what came of it, and its pid."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            capabilities.die_with_parent()
            os.write(writer, judge(line).encode())
        finally:
            if sys.exc_info()[0] is not None:
                sys.__excepthook__(*sys.exc_info())
            os._exit(0)
    os.close(writer)
    return reader, pid


def strict(profile: Profile, phase: Phase, *, table_dropped: bool = False) -> Callable[[Line], str]:
    """What the supervisor says of it: "violation TEXT", or "taken MESSAGES"."""
    if table_dropped:
        names = ("Versions", "SetPassword", "Verification", "CommitFailed", "PlanComplete")
        everything = tuple(Request(name, each, "the table is dropped") for name in names for each in PHASES)
        profile = msgspec.structs.replace(profile, requests=everything)

    def judge(line: Line) -> str:
        loop = Loop(SystemClock())
        table = Table([profile])
        table.advance(phase)
        worker = Worker(loop, table, profile, 0, 1, _channel(line))
        told: list[str] = []

        async def listen() -> None:
            told.append(await _listen(worker))
            loop.stop()

        loop.start("listen", listen(), detached=True)
        loop.run()
        return told[0]

    return judge


async def _listen(worker: Worker) -> str:
    taken: list[str] = []
    while True:
        try:
            message, descriptors = await worker.receive(QUIET_S if taken else START_S)
        except WorkerViolation as violation:
            return f"violation {violation}"
        except TimedOut:
            return f"taken {' '.join(taken)}"
        close_all(descriptors)
        taken.append(type(message).__name__)


def plain(beyond: int) -> Callable[[Line], str]:
    """No check of any kind; "believed" if more than `beyond` frames or any descriptor came."""

    def judge(line: Line) -> str:
        listener = line.listener
        frames, descriptors = (
            _from_packets(line.side, beyond) if listener is None else _from_zmq(line, listener, beyond)
        )
        return "believed" if frames > beyond or descriptors else "nothing"

    return judge


def _channel(line: Line) -> Channel:
    if line.listener is None:
        return PacketChannel(line.side)
    return pair.listen(pair.context(), line.path, line.listener, line.side, line.uid)


def _from_zmq(line: Line, listener: socket.socket, beyond: int) -> tuple[int, int]:
    context: Any = zmq.Context(io_threads=1)
    socket_ = context.socket(zmq.PAIR)
    socket_.setsockopt(zmq.USE_FD, listener.detach())
    socket_.bind(f"ipc://{line.path}")
    frames = descriptors = 0
    while frames <= beyond and not descriptors and socket_.poll(int((QUIET_S if frames else START_S) * 1000)):
        socket_.recv_multipart()
        frames += 1
        descriptors = _descriptors_waiting(line.side)
    return frames, descriptors


def _from_packets(side: socket.socket, beyond: int) -> tuple[int, int]:
    frames = descriptors = 0
    while frames <= beyond and not descriptors and _readable(side, QUIET_S if frames else START_S):
        packet, ancillary, _, _ = side.recvmsg(_MOST_BYTES, socket.CMSG_SPACE(253 * 4))
        descriptors += _count(ancillary)
        if not packet:
            break
        frames += 1
    return frames, descriptors


def _descriptors_waiting(side: socket.socket) -> int:
    return _count(side.recvmsg(64, socket.CMSG_SPACE(253 * 4))[1]) if _readable(side, 0) else 0


def _count(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    return sum(len(data) // 4 for _, _, data in ancillary)


def _readable(side: socket.socket, patience_s: float) -> bool:
    poller = select.poll()
    poller.register(side, select.POLLIN)
    return bool(poller.poll(int(patience_s * 1000)))
