# SPDX-License-Identifier: Apache-2.0
"""A server on 127.0.0.1 that answers each request by a function of it, on as many connections as come; keeps them."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from tests.fabric.acceptor import Acceptor

PATIENCE_S = 10.0


class Asked(NamedTuple):
    """One request. `fields` by their names in lower case; `connection` counts from 0."""

    method: str
    target: str
    fields: dict[str, str]
    body: bytes
    connection: int


Respond = Callable[[Asked], bytes]


class AnsweringServer:
    """Use as a context manager. `requests`: all that came, in their order. An empty answer closes the connection."""

    def __init__(self, respond: Respond) -> None:
        self.requests: list[Asked] = []
        self.connections = 0
        self._respond = respond
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = Acceptor("answering", lambda: self._listener, self._serve)

    def __enter__(self) -> "AnsweringServer":
        self._acceptor.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._acceptor.stop()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(PATIENCE_S)
        with self._lock:
            number, self.connections = self.connections, self.connections + 1
        rest = b""
        while True:
            while b"\r\n\r\n" not in rest:
                more = client.recv(65536)
                if not more:
                    return
                rest += more
            head, _, rest = rest.partition(b"\r\n\r\n")
            line, *lines = head.decode().split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
            size = int(fields.get("content-length", "0"))
            body, rest = rest[:size], rest[size:]
            while len(body) < size and (more := client.recv(65536)):
                body += more
            method, target, _ = line.split(" ")
            asked = Asked(method, target, fields, body, number)
            with self._lock:
                self.requests.append(asked)
            response = self._respond(asked)
            if not response:
                return
            with contextlib.suppress(ConnectionError):
                client.sendall(response)
