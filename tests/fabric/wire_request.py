# SPDX-License-Identifier: Apache-2.0
"""Owns the reading of one HTTP/1.1 request, as strict as may be: every deviation is named, none is repaired.

Runs in test processes, in the thread of the connection. It judges the form of a request, never its meaning.
"""

import re
import socket
import time
from dataclasses import dataclass, field

from tests.fabric.wire_book import Refusal, Trial

MAX_LINE_BYTES = 8 * 1024
MAX_HEADERS = 64
MAX_BODY_BYTES = 1024 * 1024
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
REQUEST_LINE = re.compile(r"([A-Z]+) (\S+) (HTTP/\d\.\d)")
WITH_BODY = ("POST", "PUT")


class Incomplete(Exception):
    """The client ended the connection within a request: nobody is left to answer."""


@dataclass
class Request:
    """One request as far as it was read; `refusal` is what is wrong with its form, None when nothing is. `caller` is
    the address that it came from."""

    method: str = ""
    target: str = ""
    version: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    trial: Trial = field(default_factory=Trial)
    refusal: Refusal | None = None
    caller: str = ""

    def header(self, name: str) -> str | None:
        """The first header called `name`, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def wants_close(self) -> bool:
        return (self.header("Connection") or "").lower() == "close"


@dataclass(frozen=True)
class Terms:
    """What one service demands of a request's form: the names by which it may be called (none: by the address that was
    connected to), the size of a body."""

    hosts: tuple[str, ...] = ()
    most_body_bytes: int = MAX_BODY_BYTES


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

    def line(self, trial: Trial) -> str:
        """The next line, which must end in CRLF. Raises Incomplete, Refusal."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                break
            self._more("the head")
        trial.demand("line-length", 0 <= end <= MAX_LINE_BYTES, f"a line is longer than {MAX_LINE_BYTES} bytes")
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        trial.demand("line-end", line.endswith(b"\r\n"), "a line does not end in CRLF")
        printable = line[:-2].isascii() and all(byte >= 0x20 or byte == 0x09 for byte in line[:-2])
        trial.demand("line-ascii", printable, "a line has bytes that are not printable ASCII")
        return line[:-2].decode("ascii")

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes. Raises Incomplete, Refusal."""
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
            raise Refusal("in-time", f"silence for {self._patience_s:g} s within {where}") from None
        except ConnectionError:
            raise Incomplete(f"the client reset the connection within {where}") from None
        if not chunk:
            raise Incomplete(f"the client closed within {where}")
        self._buffer += chunk


def read_request(reader: Reader, address: tuple[str, int], request: Request, terms: Terms | None = None) -> None:
    """Fill `request`, field by field, from `reader`; `address` is the host and port that the client connected to.

    Raises Incomplete, or Refusal: what is wrong with a request's form leaves its connection unusable."""
    trial, terms = request.trial, terms or Terms()
    first = reader.line(trial)
    parts = REQUEST_LINE.fullmatch(first)
    if parts is None:
        raise Refusal("request-line", f"{first[:80]!r} is not a request line")
    trial.demand("request-line", True, "")
    request.method, request.target, request.version = parts.groups()
    headers: list[tuple[str, str]] = []
    while line := reader.line(trial):
        headers.append(_header(line, trial))
        request.headers = tuple(headers)
        trial.demand("header-count", len(headers) <= MAX_HEADERS, f"more than {MAX_HEADERS} headers")
    request.body = reader.exactly(_body_size(request, terms.most_body_bytes))
    trial.demand("in-time", True, "")
    _judge_form(request, terms.hosts or _names(address))


def _header(line: str, trial: Trial) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    trial.demand("header-form", bool(colon and TOKEN.fullmatch(name)), f"{line[:80]!r} is not a header")
    return name, value.strip(" \t")


def _body_size(request: Request, most_bytes: int) -> int:
    demand = request.trial.demand
    lengths = [value for name, value in request.headers if name.lower() == "content-length"]
    chunked = request.header("Transfer-Encoding") is not None
    demand("no-transfer-encoding", not chunked, "Transfer-Encoding instead of Content-Length")
    if request.method in WITH_BODY:
        demand("length-given", bool(lengths), f"{request.method} without Content-Length")
    if not lengths:
        return 0
    demand("length-once", len(lengths) == 1, "more than one Content-Length")
    right = bool(re.fullmatch(r"[0-9]{1,9}", lengths[0])) and int(lengths[0]) <= most_bytes
    demand("length-size", right, f"Content-Length {lengths[0][:40]!r} is not a size up to {most_bytes}")
    return int(lengths[0])


def _names(address: tuple[str, int]) -> tuple[str, ...]:
    with_port = f"{address[0]}:{address[1]}"
    return (with_port, address[0]) if address[1] == 80 else (with_port,)


def _judge_form(request: Request, hosts: tuple[str, ...]) -> None:
    """Hold a request that was read whole against the rules of form. Raises Refusal."""
    demand = request.trial.demand
    names = [name.lower() for name, _ in request.headers]
    twice = sorted({name for name in names if names.count(name) > 1})
    host, connection = request.header("Host"), request.header("Connection")
    demand("http-version", request.version == "HTTP/1.1", f"{request.version} instead of HTTP/1.1")
    path = request.target.startswith("/")
    demand("origin-form", path, "the target is not a path (absolute form is for proxies)")
    demand("headers-once", not twice, f"{', '.join(twice)} given more than once")
    demand("host-given", host is not None, "the Host header is missing")
    demand("host-right", host in hosts, f"Host {host!r} is not {' or '.join(hosts)}")
    known = (connection or "close").lower() in {"close", "keep-alive"}
    demand("connection", known, f"Connection {connection!r}")
    demand("no-expect", "expect" not in names, "Expect is not supported")
    if request.method not in WITH_BODY:
        demand("no-body", not request.body, f"{request.method} with a body")
