# SPDX-License-Identifier: Apache-2.0
"""Owns one TCP connection on the supervisor's loop: connect, send, receive, each with a time limit.

Runs in the supervisor. It must never block, and never be the first to say goodbye: it closes after the peer's FIN, or
by a reset, so that neither side is left with a half-closed connection or one in TIME_WAIT.
"""

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

from supervisor.loop import READ, WRITE, Loop, Promise

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Address = tuple[str, int]
# Gives a new TCP socket, not connected; may wait until one may be used.
SocketMaker: TypeAlias = "Callable[[], Coroutine[Promise[Any], None, socket.socket]]"

# l_onoff = 1, l_linger = 0: close() sends a reset. Set from the start, so that the kernel does the same for us when the
# process is killed: the last packets of a socket that nobody owns any more would match no firewall rule of ours.
_RESET = struct.pack("ii", 1, 0)
_GOODBYE = struct.pack("ii", 0, 0)


async def plain_socket() -> socket.socket:
    """One of this process's own."""
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def given_up() -> ConnectionAbortedError:
    """Why something under way fails when our own side no longer wants it."""
    return ConnectionAbortedError(errno.ECONNABORTED, "given up on our side")


class Stream:
    """One connection, from `connect` on. Errors: OSError, and TimedOut when a wait passes its limit.

    While nobody waits for it, it watches for the peer's FIN and closes by itself: `open` tells."""

    def __init__(self, loop: Loop, unconnected: socket.socket) -> None:
        """`unconnected`, a TCP socket that does not block, is this object's from now on."""
        self.open = True
        self._loop = loop
        self._socket = unconnected
        self._descriptor = self._socket.fileno()
        self._events = 0
        self._waiting: Promise[None] | None = None
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def connect(self, address: Address, timeout_s: float) -> None:
        """Connect to (IPv4 address, port)."""
        answer = self._socket.connect_ex(address)
        if answer == errno.EINPROGRESS:
            await self._wait(WRITE, timeout_s)
            answer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if answer != 0:
            raise OSError(answer, os.strerror(answer))
        self._watch(READ)

    async def send(self, content: bytes, timeout_s: float) -> None:
        """Hand all of `content` to the kernel, within `timeout_s`."""
        deadline = self._loop.clock.monotonic() + timeout_s
        rest = memoryview(content)
        while True:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await self._wait(WRITE, deadline - self._loop.clock.monotonic())
            if not rest:
                return

    async def receive(self, most_bytes: int, timeout_s: float) -> bytes:
        """What has come, at least one byte; empty after the peer's FIN.

        It always waits for the poll first: a peer that never stops sending can't keep the loop from its other work."""
        while True:
            await self._wait(READ, timeout_s)
            try:
                return self._socket.recv(most_bytes)
            except BlockingIOError:
                continue

    def reset(self) -> None:
        """Close at once by a reset; whoever waits fails with ConnectionAbortedError. Harmless when closed."""
        if not self.open:
            return
        self.open = False
        self._loop.unwatch(self._descriptor)
        self._socket.close()
        if self._waiting is not None:
            self._waiting.fail(given_up())

    def finish(self) -> None:
        """Close an unused connection on which something came: politely after a FIN, by a reset after anything else."""
        try:
            ended = self._socket.recv(1) == b""
        except OSError:
            ended = False
        if ended:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _GOODBYE)
        self.reset()

    async def _wait(self, events: int, timeout_s: float) -> None:
        if not self.open:
            raise given_up()
        self._waiting = waiting = Promise[None]()
        self._watch(events)
        try:
            await self._loop.within(waiting, timeout_s)
        finally:
            self._waiting = None
            if self.open:
                self._watch(READ)

    def _watch(self, events: int) -> None:
        """Kept from one request to the next: registering anew for each wait would cost more than the wait."""
        if events != self._events:
            self._events = events
            self._loop.watch(self._descriptor, self._on_event, events)

    def _on_event(self) -> None:
        if self._waiting is None:
            self.finish()
        else:
            self._waiting.fulfil(None)
