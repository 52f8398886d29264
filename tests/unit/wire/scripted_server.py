# SPDX-License-Identifier: Apache-2.0
"""A raw TCP server on 127.0.0.1 that plays one script per accepted connection; for tests of the HTTP client only.

It speaks bytes, not HTTP, so that it can be as wrong as a test needs. Scripts run in one thread, one after the other.
"""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType

PATIENCE_S = 10.0
GOAL_STATE = b"<GoalState>1</GoalState>"


def answer(body: bytes = GOAL_STATE, status: str = "200 OK", *headers: str) -> bytes:
    """A correct answer with Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket, requests: list[bytes], stopping: threading.Event) -> None:
        self._connection = connection
        self._requests = requests
        self._stopping = stopping
        connection.settimeout(PATIENCE_S)

    def request(self) -> bytes:
        """Read one whole request and record it; empty when the client is gone instead."""
        content = b""
        while not _is_complete(content):
            try:
                more = self._connection.recv(65536)
            except ConnectionError:
                return b""
            if not more:
                return b""
            content += more
        self._requests.append(content)
        return content

    def send(self, content: bytes) -> None:
        self._connection.sendall(content)

    def drip(self, content: bytes, pause_s: float) -> None:
        """One byte a packet."""
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for byte in content:
                self.send(bytes([byte]))
                self._stopping.wait(pause_s)

    def flood(self, content: bytes, times: int) -> int:
        """Send `content` again and again; how often it went out before the client cut the connection."""
        for sent in range(times):
            try:
                self.send(content)
            except ConnectionError:
                return sent
        return times

    def end(self) -> str:
        """Wait until the client's end closes: "fin" or "reset"."""
        try:
            while self._connection.recv(65536):
                pass
        except ConnectionResetError:
            return "reset"
        return "fin"

    def hang(self) -> None:
        """Read nothing until the client resets the connection."""
        poll = select.poll()
        poll.register(self._connection, 0)
        if not poll.poll(PATIENCE_S * 1000):
            raise TimeoutError("the client holds on")

    def close(self) -> None:
        """Close with a FIN."""
        self._connection.close()

    def half_close(self) -> None:
        """Send a FIN, go on reading."""
        self._connection.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a reset."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


Script = Callable[[Peer], None]


class ScriptedServer:
    """Plays `scripts`, one per connection in order of arrival; leaving the `with` raises a script's failure."""

    def __init__(self, *scripts: Script) -> None:
        self.requests: list[bytes] = []
        self.accepted = 0
        self._scripts = scripts
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_S)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._play, daemon=True)

    def __enter__(self) -> "ScriptedServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.finish()
        if self._failure is not None and error is None:
            raise self._failure

    def finish(self) -> None:
        """Stop accepting, wait for the script that runs."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._listener.close()

    def _play(self) -> None:
        for script in self._scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with connection:
                try:
                    script(Peer(connection, self.requests, self._stopping))
                except Exception as error:  # noqa: BLE001 - handed to the test's own thread
                    self._failure = error
                    return


def always(content: bytes) -> Script:
    """Read a request, send `content`, again and again until the client is gone."""

    def script(peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            while peer.request():
                peer.send(content)

    return script


def once(content: bytes) -> Script:
    """Read a request, send `content`, close."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(content)

    return script


def bad(content: bytes) -> Script:
    """A whole answer that the client must drop, by a reset, as nothing else is allowed before the host's FIN."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(content)
        assert peer.end() == "reset"

    return script


def _is_complete(content: bytes) -> bool:
    head, blank, body = content.partition(b"\r\n\r\n")
    if not blank:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return True
