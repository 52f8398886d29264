# SPDX-License-Identifier: Apache-2.0
"""Measures one message there and back: over a PAIR with the codec, over the packet channel, and bare bytes beside them.

Each peer is a process forked before any ZeroMQ context exists, as the agent's are."""

import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import zmq

from ipc.channel import PacketChannel
from ipc.codec import encode
from ipc.descriptors import packet_pair
from ipc.errors import AgentError
from ipc.messages import PlanComplete, WorkerReady
from ipc.pair import ZmqChannel, connect, listen
from tests.bench.samples import Budget, Row, in_unit, quantile, timed

PATIENCE_S = 10.0
# What a typed, checked message over two libzmq threads may cost, as a multiple of bare bytes between two processes.
MOST_TIMES_BARE = 40


def measure(times: int) -> list[Row]:
    """Round trips of a small message; the ratio is what the channel and the codec add."""
    bare = _bare(times)
    packet = _packet(times)
    pair = _pair(times)
    ratio = quantile(pair, 50) / quantile(bare, 50)
    return [
        Row("message there and back, bare socketpair", "us", in_unit(bare, "us")),
        Row("  packet channel and codec (committers)", "us", in_unit(packet, "us")),
        Row("  ZeroMQ PAIR and codec (workers)", "us", in_unit(pair, "us")),
        Row("  ZeroMQ PAIR as a multiple of bare", "x", (ratio,), Budget(MOST_TIMES_BARE, binding=True)),
    ]


def _bare(times: int) -> tuple[float, ...]:
    ours, theirs = packet_pair()
    frame = encode(PlanComplete(1), 0, 0)

    def there_and_back() -> None:
        ours.send(frame)
        ours.recv(4096)

    with _peer(lambda: _echo_bytes(theirs), ours, theirs):
        return timed(there_and_back, times, warm_up=50)


def _packet(times: int) -> tuple[float, ...]:
    ours, theirs = packet_pair()
    channel = PacketChannel(ours)
    with _peer(lambda: _echo(PacketChannel(theirs)), ours, theirs):
        channel.receive(PATIENCE_S)
        return timed(lambda: _ask(channel), times, warm_up=50)


def _pair(times: int) -> tuple[float, ...]:
    ours, theirs = packet_pair()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "s"))
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(1)
        with _peer(lambda: _echo(connect(zmq.Context(), path, theirs)), ours, theirs), zmq.Context() as context:
            channel = listen(context, path, listener, ours, os.getuid())
            try:
                channel.receive(PATIENCE_S)
                return timed(lambda: _ask(channel), times, warm_up=50)
            finally:
                channel.close()


def _ask(channel: PacketChannel | ZmqChannel) -> None:
    channel.send(PlanComplete(1))
    channel.receive(PATIENCE_S)


def _echo(channel: PacketChannel | ZmqChannel) -> None:
    channel.send(WorkerReady())  # a worker speaks first: before that the supervisor's end has no one to send to
    while True:
        channel.receive()
        channel.send(PlanComplete(1))


def _echo_bytes(peer: socket.socket) -> None:
    while data := peer.recv(4096):
        peer.send(data)


@contextlib.contextmanager
def _peer(work: Callable[[], None], ours: socket.socket, theirs: socket.socket) -> Iterator[None]:
    """A forked process that runs `work` until it is killed at the end."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(AgentError, OSError):
            ours.close()
            work()
        os._exit(0)
    theirs.close()
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ours.close()
