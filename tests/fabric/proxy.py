# SPDX-License-Identifier: Apache-2.0
"""Owns an HTTP proxy of a tenant's network: it connects its callers to wherever they name, and notes where that was.

Runs in test processes, one thread and one more for each connection. It reads nothing of what passes through it.
"""

import contextlib
import re
import socket
import threading

from tests.fabric.acceptor import Acceptor
from tests.fabric.answers import TEXT, Answer
from tests.fabric.misbehaviour import encode
from tests.fabric.wire_book import Refusal, Trial
from tests.fabric.wire_request import Incomplete, Reader

# Python before 3.12 says HTTP/1.0.
CONNECT = re.compile(r"CONNECT ([A-Za-z0-9.-]+):(\d{1,5}) HTTP/1\.[01]")
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """One that knows CONNECT alone. `connected`: the places asked for, oldest first; `status`, unless 200, is what it
    answers instead of connecting anybody."""

    def __init__(self, address: tuple[str, int], patience_s: float = 10.0) -> None:
        self.address = address
        self.status = 200
        self.connected: list[str] = []
        self._patience_s = patience_s
        self._acceptor = Acceptor("proxy", lambda: socket.create_server(address), self._serve)

    def open(self) -> None:
        self._acceptor.open()

    def shut(self, seconds: float | None) -> None:
        """Listen no more until `open`; nobody has asked for less yet."""
        if seconds is not None:
            raise ValueError("a proxy is shut until it is opened again")
        self._acceptor.close()

    def stop(self) -> None:
        self._acceptor.stop()

    def _serve(self, client: socket.socket) -> None:
        reader = Reader(client, self._patience_s)
        try:
            if not reader.begin():
                return
            asked = CONNECT.fullmatch(reader.line(Trial()))
            while reader.line(Trial()):
                pass
        except (Refusal, Incomplete):
            asked = None
        if asked is None or self.status != 200:
            status = 400 if asked is None else self.status
            client.sendall(encode(Answer(status, b"not connected", TEXT), close=True))
            return
        self.connected.append(f"{asked[1]}:{asked[2]}")
        with socket.create_connection((asked[1], int(asked[2])), timeout=self._patience_s) as server:
            server.settimeout(None)
            client.sendall(CONNECTED)
            back = threading.Thread(target=_pass_on, args=(server, client), name="proxy passes back")
            back.start()
            _pass_on(client, server)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Everything that comes, and its end."""
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    for one, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            one.shutdown(how)
