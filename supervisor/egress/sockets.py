# SPDX-License-Identifier: Apache-2.0
"""Owns the sockets that the client to the host connects: none before it is decided how the rule knows them.

Runs in the supervisor. Where the rule knows a uid, a worker of that uid makes them beforehand; it connects none.
"""

import errno
import socket
from collections import deque
from contextlib import suppress

from ipc.descriptors import close_all
from ipc.errors import AgentError
from ipc.messages import MakeSockets, SocketsMade
from supervisor.fleet import Fleet
from supervisor.loop import Loop, Promise
from supervisor.wire.stream import plain_socket

KIND = "wire-socket"
# With so many left new ones are fetched: the next that is asked for should not have to wait.
FEW = 1


class Sockets:
    """Gives a socket to whoever connects to the host, and knows which ports ours have."""

    def __init__(self, loop: Loop, fleet: Fleet) -> None:
        self._loop = loop
        self._fleet = fleet
        self._decided: Promise[None] = Promise()
        self._by_uid = False
        self._store: deque[socket.socket] = deque()
        self._fetching: Promise[None] | None = None
        self._given: list[socket.socket] = []

    def decide(self, *, by_uid: bool) -> None:
        """From now on whoever waits for a socket gets one: made under the rule's uid, or this process's own."""
        self._by_uid = by_uid
        if not by_uid:
            while self._store:
                self._store.popleft().close()
        self._decided.fulfil(None)

    @property
    def are_decided(self) -> bool:
        return self._decided.done

    def withhold(self) -> None:
        """Nobody gets one until it is decided again."""
        if self._decided.done:
            self._decided = Promise()

    @property
    def ports(self) -> tuple[int, ...]:
        """The local ports of those that were given and are open still."""
        self._given = [given for given in self._given if given.fileno() >= 0]
        return tuple(port for port in map(_port, self._given) if port)

    async def take(self) -> socket.socket:
        """For the client; waits until it is decided which. OSError when none can be had."""
        await self._decided
        given = await self.make(by_uid=self._by_uid)
        self._given.append(given)
        return given

    async def make(self, *, by_uid: bool) -> socket.socket:
        """One of the sort asked for, decided or not. OSError when none can be had."""
        if not by_uid:
            return await plain_socket()
        if not self._store:
            await self._fetched()
        if not self._store:
            raise OSError(errno.EAGAIN, f"no socket from a worker of kind {KIND}")
        made = self._store.popleft()
        if len(self._store) <= FEW:
            self._begin_fetching()
        return made

    async def _fetched(self) -> None:
        try:
            await self._begin_fetching()
        except AgentError as error:
            raise OSError(errno.EAGAIN, str(error)) from None

    def _begin_fetching(self) -> Promise[None]:
        if self._fetching is None or self._fetching.done:
            self._fetching = self._loop.start("sockets", self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        """AgentError when the worker makes none; whoever finds the store empty is told."""
        received = await self._fleet.do(KIND, MakeSockets(), final=(SocketsMade,))
        answer, descriptors = received[-1]
        if not isinstance(answer, SocketsMade):
            close_all(descriptors)
            raise AgentError(f"{KIND} makes no socket: {answer}")
        for descriptor in descriptors:
            made = socket.socket(fileno=descriptor)
            made.setblocking(False)
            self._store.append(made)


def _port(given: socket.socket) -> int:
    with suppress(OSError):
        return int(given.getsockname()[1])
    return 0
