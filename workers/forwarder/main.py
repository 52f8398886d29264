# SPDX-License-Identifier: Apache-2.0
"""Owns the forwarder's life: a listening socket from the supervisor, one handler's connections, a question at a time.

Its process has an own uid, no capability, a network of its own with nothing in it, and no file. What it finds within
the grant is asked of the supervisor, which judges it again; it speaks to nobody else.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator

from ipc.channel import Channel
from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.errors import BadDescriptor, UnpermittedMessage
from ipc.messages import Forward, ForwardAnswer, ForwardRefused, RefusalNoted
from ipc.messages.grants import MOST_BODY_BYTES
from workers.forwarder.client import Client
from workers.runtime import Answer, serve_once

MOST_CLIENTS = 8
# Then it takes no more connections, finishes those that it has, and ends: the next one begins with a clean memory.
MOST_TOLD = 250
PROBLEM_CHARACTERS = 1000


class Desk:
    """The connections at `listener`, all under one grant; `told` counts what the supervisor was told."""

    def __init__(
        self, channel: Channel, listener: socket.socket, order: Forward, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.told = 0
        self._channel = channel
        self._listener = listener
        self._order = order
        self._monotonic = monotonic
        self._clients: list[Client] = []
        # Who has something to tell, in the order in which it was complete; the first may have been told already.
        self._tellers: deque[Client] = deque()
        self._asked = False
        listener.setblocking(False)

    def run(self) -> Iterator[Answer]:
        """Yield what the supervisor is to be told, one at a time, until enough was told."""
        while self.told < MOST_TOLD or self._clients or self._tellers:
            ready = self._wait()
            if self._channel.source in ready:
                self._take_answer()
            if self._listener.fileno() in ready:
                self._accept()
            for client in self._clients:
                if client.fileno() in ready:
                    self._after(client, client.on_ready)
                elif client.deadline <= self._monotonic():
                    self._after(client, client.on_deadline)
            self._clients = [client for client in self._clients if client.state != "closed"]
            if self._tellers and not self._asked:
                self._asked = True
                self.told += 1
                yield _telling(self._tellers[0])

    def _wait(self) -> set[int]:
        """Descriptors with something to do, at the latest when the next deadline is over."""
        poll = select.poll()
        poll.register(self._channel.source, select.POLLIN)
        if len(self._clients) + len(self._tellers) < MOST_CLIENTS and self.told < MOST_TOLD:
            poll.register(self._listener, select.POLLIN)
        for client in self._clients:
            poll.register(client, client.events)
        patience_s = min((client.deadline - self._monotonic() for client in self._clients), default=None)
        events = poll.poll(None if patience_s is None else max(0, int(patience_s * 1000) + 1))
        return {descriptor for descriptor, _ in events}

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            # It was given up again before we came.
            return
        self._clients.append(Client(connection, self._order.grant, self._order.address, self._monotonic()))

    def _after(self, client: Client, act: Callable[[float], None]) -> None:
        """Have it act; note when it has come to something that is to be told."""
        before = client.state
        act(self._monotonic())
        if before == "reading" and (client.state == "waiting" or client.refusal is not None):
            self._tellers.append(client)

    def _take_answer(self) -> None:
        answer, descriptors = self._channel.receive()
        try:
            if not self._asked or len(descriptors) != isinstance(answer, ForwardAnswer):
                raise BadDescriptor(f"{type(answer).__name__} came with {len(descriptors)} descriptors, or unasked")
            client = self._tellers.popleft()
            self._asked = False
            if isinstance(answer, ForwardAnswer):
                body = read_sealed(descriptors[0], MOST_BODY_BYTES)
                client.answer(answer.status, answer.content_type, body, self._monotonic())
            elif not isinstance(answer, RefusalNoted):
                raise UnpermittedMessage(f"{type(answer).__name__} is no answer here")
        finally:
            close_all(descriptors)


def _telling(client: Client) -> Answer:
    if client.refusal is not None:
        return ForwardRefused(client.refusal.status, str(client.refusal)[:PROBLEM_CHARACTERS])
    if client.request is None:
        raise ValueError("there is neither a request nor a refusal to tell of")
    return client.request, (sealed_memfd("request", bytes(client.body)),)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""

    def on_forward(order: Forward, descriptors: tuple[int, ...]) -> Iterator[Answer]:
        if len(descriptors) != 1:
            close_all(descriptors)
            raise BadDescriptor(f"{len(descriptors)} descriptors came instead of one")
        # What it is is said here: asking the kernel for it takes a call that is needed for nothing else.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptors[0])
        return Desk(channel, listener, order).run()

    serve_once(channel, lock, {Forward: on_forward})
