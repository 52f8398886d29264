# SPDX-License-Identifier: Apache-2.0
"""Owns a client of the WireServer that sends exactly the bytes it is told to and shows exactly those that come back.

Runs in test processes. Its drafts are the reference agent's own requests (wire-protocol.md 3); it repairs nothing.
"""

import contextlib
import socket
from dataclasses import dataclass, replace
from types import TracebackType

from tests.fabric.documents import GoalState, Health, RoleProperties

HEADER_SET_A = (("x-ms-agent-name", "WALinuxAgent"), ("x-ms-version", "2012-11-30"))
CONTENT_TYPE = ("Content-Type", "text/xml;charset=utf-8")


@dataclass(frozen=True)
class Draft:
    """One request before it is sent. Content-Length is a header like any other."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    version: str = "HTTP/1.1"

    def encode(self) -> bytes:
        lines = [f"{self.method} {self.target} {self.version}", *(f"{name}: {value}" for name, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + self.body

    def having(self, name: str, value: str | None) -> "Draft":
        """The same with one header set anew, or left out."""
        kept = tuple(header for header in self.headers if header[0] != name)
        return replace(self, headers=kept if value is None else (*kept, (name, value)))

    def adding(self, name: str, value: str) -> "Draft":
        """The same with one more header, whatever is there already."""
        return replace(self, headers=(*self.headers, (name, value)))


def get(address: tuple[str, int], target: str, *more: tuple[str, str]) -> Draft:
    """A GET as the reference agent sends it, without its `Connection: close`."""
    host = address[0] if address[1] == 80 else f"{address[0]}:{address[1]}"
    return Draft("GET", target, (("Host", host), ("User-Agent", "WALinuxAgent/2.15.0.1"), *more))


def get_versions(address: tuple[str, int]) -> Draft:
    return get(address, "/?comp=versions")


def get_goal_state(address: tuple[str, int]) -> Draft:
    return get(address, "/machine/?comp=goalstate", *HEADER_SET_A)


def post(address: tuple[str, int], target: str, body: bytes) -> Draft:
    """A POST with header set B."""
    draft = get(address, target, *HEADER_SET_A, CONTENT_TYPE, ("Content-Length", str(len(body))))
    return replace(draft, method="POST", body=body)


def post_health(address: tuple[str, int], report: Health) -> Draft:
    return post(address, "/machine?comp=health", report.xml().encode())


def post_role_properties(address: tuple[str, int], report: RoleProperties) -> Draft:
    return post(address, "/machine?comp=roleProperties", report.xml().encode())


def get_part(address: tuple[str, int], goal_state: GoalState, name: str) -> Draft:
    """A part of a goal state, by the name of its route, with header set A."""
    return get(address, goal_state.targets()[name], *HEADER_SET_A)


def get_certificates(address: tuple[str, int], goal_state: GoalState, certificate: str) -> Draft:
    """The certificates, with header set C; `certificate` is DER in base64, on one line."""
    draft = get_part(address, goal_state, "certificates").having("x-ms-cipher-name", "AES128_CBC")
    return draft.having("x-ms-guest-agent-public-x509-cert", certificate)


def report_on(goal_state: GoalState, state: str, sub_status: str = "", description: str = "") -> Health:
    """The report that fits `goal_state`."""
    ids = (str(goal_state.incarnation), goal_state.container_id, goal_state.instance_id)
    return Health(*ids, state, sub_status, description)


@dataclass(frozen=True)
class Reply:
    """One answer, framed by its Content-Length."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawClient:
    """One connection."""

    def __init__(self, address: tuple[str, int], timeout_s: float = 5.0) -> None:
        self.socket = socket.create_connection(address, timeout_s)
        self.buffer = b""

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def ask(self, draft: Draft | bytes) -> Reply:
        """Send and read one answer with a Content-Length. Raises EOFError, OSError, ValueError."""
        self.send(draft)
        return self.reply()

    def send(self, draft: Draft | bytes) -> None:
        self.socket.sendall(draft if isinstance(draft, bytes) else draft.encode())

    def reply(self) -> Reply:
        """The next answer."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = int(headers["content-length"])
        while len(self.buffer) < size:
            self._more()
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return Reply(int(first.split(" ")[1]), headers, body)

    def everything(self) -> bytes:
        """All bytes until the host's end of file, or until it resets the connection."""
        with contextlib.suppress(ConnectionResetError):
            while True:
                try:
                    self._more()
                except EOFError:
                    break
        return self.buffer

    def _more(self) -> None:
        chunk = self.socket.recv(65536)
        if not chunk:
            raise EOFError("the host closed the connection")
        self.buffer += chunk


def ask_once(address: tuple[str, int], draft: Draft | bytes) -> Reply:
    """One request on a connection of its own."""
    with RawClient(address) as client:
        return client.ask(draft)
