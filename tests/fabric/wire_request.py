# SPDX-License-Identifier: Apache-2.0
"""Owns the reading of one HTTP/1.1 request, as strict as may be: every deviation is named, none is repaired.

Runs in test processes, in the thread of the connection. It judges the form of a request, never its meaning.
"""

import re
import socket
import time
from dataclasses import dataclass

MAX_LINE_BYTES = 8 * 1024
MAX_HEADERS = 64
MAX_BODY_BYTES = 1024 * 1024
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
REQUEST_LINE = re.compile(r"([A-Z]+) (\S+) (HTTP/\d\.\d)")


class Incomplete(Exception):
    """The client ended the connection within a request: nobody is left to answer."""


class Misformed(Exception):
    """The request can't be told from what follows it: it is refused and the connection closed."""


@dataclass
class Request:
    """One request as far as it was read; `problem` is what is wrong with its form, empty when nothing is."""

    method: str = ""
    target: str = ""
    version: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    problem: str = ""

    def header(self, name: str) -> str | None:
        """The first header called `name`, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def wants_close(self) -> bool:
        return (self.header("Connection") or "").lower() == "close"


class Reader:
    """Buffered reading from a socket. A request must be whole `patience_s` after its first byte."""

    def __init__(self, connection: socket.socket, patience_s: float) -> None:
        self._connection = connection
        self._patience_s = patience_s
        self._deadline = 0.0
        self._buffer = bytearray()

    def begin(self) -> bool:
        """Wait without limit for the first byte of a request; False when the client has closed instead."""
        self._connection.settimeout(None)
        if not self._buffer:
            self._buffer += self._connection.recv(65536)
        self._deadline = time.monotonic() + self._patience_s
        return bool(self._buffer)

    def line(self) -> str:
        """The next line, which must end in CRLF. Raises Incomplete, Misformed."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                break
            self._more("the head")
        if end < 0 or end > MAX_LINE_BYTES:
            raise Misformed(f"a line is longer than {MAX_LINE_BYTES} bytes")
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if not line.endswith(b"\r\n"):
            raise Misformed("a line does not end in CRLF")
        if not line[:-2].isascii() or any(byte < 0x20 and byte != 0x09 for byte in line[:-2]):
            raise Misformed("a line has bytes that are not printable ASCII")
        return line[:-2].decode("ascii")

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes. Raises Incomplete, Misformed."""
        while len(self._buffer) < size:
            self._more(f"a body announced with {size} bytes, after {len(self._buffer)}")
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _more(self, where: str) -> None:
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
        try:
            chunk = self._connection.recv(65536)
        except TimeoutError:
            raise Misformed(f"silence for {self._patience_s:g} s within {where}") from None
        except ConnectionError:
            raise Incomplete(f"the client reset the connection within {where}") from None
        if not chunk:
            raise Incomplete(f"the client closed within {where}")
        self._buffer += chunk


def read_request(reader: Reader, address: tuple[str, int], request: Request) -> None:
    """Fill `request`, field by field, from `reader`; `address` is the host and port that the client connected to.

    Raises Incomplete, or Misformed when the connection can't be used any more; other faults go to `problem`."""
    first = reader.line()
    parts = REQUEST_LINE.fullmatch(first)
    if parts is None:
        raise Misformed(f"{first[:80]!r} is not a request line")
    request.method, request.target, request.version = parts.groups()
    headers: list[tuple[str, str]] = []
    while line := reader.line():
        headers.append(_header(line))
        request.headers = tuple(headers)
        if len(headers) > MAX_HEADERS:
            raise Misformed(f"more than {MAX_HEADERS} headers")
    request.body = reader.exactly(_body_size(request))
    request.problem = _problem(request, address)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not TOKEN.fullmatch(name):
        raise Misformed(f"{line[:80]!r} is not a header")
    return name, value.strip(" \t")


def _body_size(request: Request) -> int:
    lengths = [value for name, value in request.headers if name.lower() == "content-length"]
    if request.header("Transfer-Encoding") is not None:
        raise Misformed("Transfer-Encoding instead of Content-Length")
    if not lengths:
        if request.method == "POST":
            raise Misformed("POST without Content-Length")
        return 0
    if len(lengths) > 1:
        raise Misformed("more than one Content-Length")
    if not re.fullmatch(r"[0-9]{1,9}", lengths[0]) or int(lengths[0]) > MAX_BODY_BYTES:
        raise Misformed(f"Content-Length {lengths[0][:40]!r} is not a size up to {MAX_BODY_BYTES}")
    return int(lengths[0])


def _problem(request: Request, address: tuple[str, int]) -> str:
    """What is wrong with the form of a request that was read whole, empty when nothing is."""
    names = [name.lower() for name, _ in request.headers]
    twice = sorted({name for name in names if names.count(name) > 1})
    hosts = [f"{address[0]}:{address[1]}"] + ([address[0]] if address[1] == 80 else [])
    connection = request.header("Connection")
    checks = (
        (request.version != "HTTP/1.1", f"{request.version} instead of HTTP/1.1"),
        (not request.target.startswith("/"), "the target is not a path (absolute form is for proxies)"),
        (bool(twice), f"{', '.join(twice)} given more than once"),
        ("host" not in names, "the Host header is missing"),
        (request.header("Host") not in hosts, f"Host {request.header('Host')!r} is not {' or '.join(hosts)}"),
        ((connection or "close").lower() not in {"close", "keep-alive"}, f"Connection {connection!r}"),
        ("expect" in names, "Expect is not supported"),
        (request.method != "POST" and bool(request.body), f"{request.method} with a body"),
    )
    return next((problem for wrong, problem in checks if wrong), "")
