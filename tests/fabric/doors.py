# SPDX-License-Identifier: Apache-2.0
"""Owns the addresses at which the emulated host listens: each can be shut for a while, so that nobody answers there.

Runs in test processes. It knows nothing of what is said there.
"""

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.fabric.acceptor import Acceptor
from tests.fabric.faults import Script
from tests.fabric.recording import Recording
from tests.fabric.wire_request import MAX_BODY_BYTES, Terms
from tests.fabric.wire_session import Desk, Judge, Session


@dataclass(frozen=True)
class Service:
    """Who answers at `address`. `hosts`: the names by which it may be called, none: by its address; with `tls`, only
    after a handshake."""

    address: tuple[str, int]
    judge: Judge
    faults: Script
    hosts: tuple[str, ...] = ()
    most_body_bytes: int = MAX_BODY_BYTES
    tls: ssl.SSLContext | None = None


class Entrance(Protocol):
    """What listens somewhere, and can be told to stop it for so many seconds, or until `open`."""

    def open(self) -> None: ...

    def shut(self, seconds: float | None) -> None: ...

    def stop(self) -> None: ...


class Door:
    """One listening address: open, or shut until further notice."""

    def __init__(self, name: str, listen: Callable[[], socket.socket], serve: Callable[[socket.socket], None]) -> None:
        self._acceptor = Acceptor(name, listen, serve)
        self._reopening: threading.Timer | None = None

    @classmethod
    def of(cls, service: Service, recording: Recording, patience_s: float) -> "Door":
        """The door of a service; what comes there is recorded with the host's other requests."""

        def serve(client: socket.socket) -> None:
            if service.tls is None:
                Session(desk, client).serve()
                return
            # A failed handshake is an OSError, too: no request came, so that there is nothing to judge.
            with service.tls.wrap_socket(client, server_side=True) as wrapped:
                Session(desk, wrapped).serve()

        door = cls(written(service.address), lambda: socket.create_server(service.address), serve)
        terms = Terms(service.hosts, service.most_body_bytes)
        desk = Desk(recording, service.judge, service.faults, door.stopping, patience_s, terms)
        return door

    @property
    def stopping(self) -> threading.Event:
        return self._acceptor.stopping

    def open(self) -> None:
        """Listen, from now on."""
        self._cancel()
        self._acceptor.open()

    def shut(self, seconds: float | None) -> None:
        """Listen no more, for so long or until `open`; connections that stand are kept."""
        self._cancel()
        self._acceptor.close()
        if seconds is not None:
            self._reopening = threading.Timer(seconds, self._acceptor.open)
            self._reopening.start()

    def stop(self) -> None:
        """End every connection and thread, within a second."""
        self._cancel()
        self._acceptor.stop()

    def _cancel(self) -> None:
        reopening, self._reopening = self._reopening, None
        if reopening is not None:
            reopening.cancel()
            reopening.join()


def written(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
