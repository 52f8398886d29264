# SPDX-License-Identifier: Apache-2.0
"""Owns what a system call is about to do, in words that are the same in every run: reads its arguments from outside.

Runs in the test, as root. It reads memory, descriptors and addresses of a thread that waits, and changes nothing.
"""

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from supervisor.layout import Layout
from tests.fabric.lab import PROJECT
from tests.fabric.scene import AGENT_LOG
from tests.kills.calls import EFFECTS, FILE, HTTP, MESSAGE
from tests.kills.payloads import plain, recorded, spoken

PAGE = 4096
SAMPLE_BYTES = 1024
AF_UNIX, AF_INET, AF_NETLINK = 1, 2, 16
AT_FDCWD = -100 & 0xFFFFFFFF
# What a log says is no state: nobody reads it to know where to go on. The project can't be written to in a lab.
# (The audit log is read to go on with it alone: tests/flow/test_audit_log.py kills while it is written.)
NO_STATE = (
    "/dev/null",
    "/dev/urandom",
    "/var/log/waagent.log",
    Layout().audit_log,
    AGENT_LOG,
    f"{PROJECT}/",
    "pipe:",
    "anon_inode:",
)
NO_STATE_PATH = re.compile("|".join(re.escape(start) for start in NO_STATE))
# KIND.N of a worker; a lock's or temporary file's name with its maker's number in it; a socket's; a certificate; a
# moment in the history; a file of telemetry; one of a handler's events; its version; the number of its settings.
NUMBERED = re.compile(
    r"(?<=[.])\d+(?=/|$)|(?<=/)\d+(?=/|$)|(?<=socket:\[)\d+|[0-9A-F]{40}|(?<=/history/)\d[^/]*|(?<=/telemetry/)[.\d]+"
    r"|(?<=-)\d+[.]\d+[.]\d+|(?<=/config/)[.]?\d+|(?<=/events/)\d+"
)


class Effect(NamedTuple):
    """`kind` is one of calls.CLASSES, `text` tells what it does and to what; `said` is the part that was sent."""

    kind: str
    text: str
    said: str = ""


class Caller:
    """A thread that waits for an answer, and its arguments."""

    def __init__(self, tid: int, arguments: tuple[int, ...]) -> None:
        self._tid = tid
        self._arguments = arguments

    def memory(self, address: int, size: int) -> bytes:
        """At most `size` bytes; fewer where its memory ends. OSError when it has ended, too: it has none then."""
        descriptor = os.open(f"/proc/{self._tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.pread(descriptor, size, address)
        finally:
            os.close(descriptor)
        if size and not found:
            raise ProcessLookupError(f"thread {self._tid} has no memory any more")
        return found

    def number(self, place: int) -> int:
        return self._arguments[place]

    def text(self, place: int) -> str:
        """The string that argument `place` points to."""
        address, found = self._arguments[place], b""
        while address and b"\0" not in found and len(found) < PAGE:
            found += self.memory(address + len(found), PAGE - (address + len(found)) % PAGE)
        return found.partition(b"\0")[0].decode(errors="replace")

    def descriptor(self, place: int) -> str:
        """What the descriptor in argument `place` is."""
        return str(Path(f"/proc/{self._tid}/fd/{self._arguments[place] & 0xFFFFFFFF}").readlink())

    def path(self, place: int) -> str:
        """The path at argument `place`, below the folder that the argument before it is a descriptor of."""
        name = self.text(place)
        folder = self._arguments[place - 1] & 0xFFFFFFFF
        if name.startswith("/") or folder == AT_FDCWD:
            return name
        return f"{self.descriptor(place - 1)}/{name}".rstrip("/")

    def pieces(self, address: int, count: int) -> bytes:
        """The beginning of what `count` iovecs at `address` hold."""
        content = b""
        for base, size in struct.iter_unpack("=QQ", self.memory(address, 16 * min(count, 4))):
            content += self.memory(base, min(size, SAMPLE_BYTES)) if size else b""
        return content

    def pid_of(self, place: int) -> int:
        """The process of the pidfd in argument `place`, as we number it; 0 when it is gone."""
        text = Path(f"/proc/{self._tid}/fdinfo/{self._arguments[place]}").read_text()
        return max(0, next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pid:")), 0))


def describe(name: str, caller: Caller, kind_of: Callable[[int], str]) -> Effect | None:
    """What system call `name` of `caller` is about to do; None for what changes nothing that lasts.

    `kind_of` names a process. OSError when the caller is gone."""
    kind, spec = EFFECTS[name]
    words = [_WORDS[each[0]](caller, int(each[1])) for each in spec.split() if each[0] in _WORDS]
    if any(NO_STATE_PATH.match(word) for word in words):
        return None
    if spec[:1] in {"g", "k"}:
        words = [kind_of(caller.pid_of(0)) if spec == "g0" else plain(str(caller.number(1)))]
    if spec[:1] in {"w", "v"}:
        return _written(name, caller, spec[0])
    if spec[:1] in {"s", "m"}:
        return _sent(name, caller, caller.descriptor(0), spec[0])
    if spec[:1] == "c":
        return _addressed(name, caller)
    return Effect(kind, f"{name}({', '.join(NUMBERED.sub('N', word) for word in words)})")


_WORDS: dict[str, Callable[[Caller, int], str]] = {
    "p": lambda caller, place: caller.text(place),
    "a": lambda caller, place: caller.path(place + 1),
    "f": lambda caller, place: caller.descriptor(place),
    "w": lambda caller, place: caller.descriptor(place),
    "v": lambda caller, place: caller.descriptor(place),
    "b": lambda caller, place: caller.text(place),
}


def _written(name: str, caller: Caller, how: str) -> Effect:
    target = caller.descriptor(0)
    if target.startswith("socket:"):
        return _sent(name, caller, target, how)
    content = _content(caller, how)
    said = recorded(content)
    return Effect(FILE, f"{name}({NUMBERED.sub('N', target)}{', ' if said else ''}{said})", said)


def _sent(name: str, caller: Caller, target: str, how: str) -> Effect:
    said = spoken(_content(caller, how))
    is_http = said.startswith(("GET ", "POST ", "PUT ", "body "))
    return Effect(HTTP if is_http else MESSAGE, f"{name}({said})", said)


def _content(caller: Caller, how: str) -> bytes:
    """The beginning of what argument 1 leads to: bytes, iovecs, or a message's iovecs."""
    if how in {"w", "s"}:
        return caller.memory(caller.number(1), min(caller.number(2), SAMPLE_BYTES))
    if how == "v":
        return caller.pieces(caller.number(1), caller.number(2))
    _, _, address, count = struct.unpack("=QQQQ", caller.memory(caller.number(1), 32))
    return caller.pieces(address, count)


def _addressed(name: str, caller: Caller) -> Effect:
    """Connect or bind."""
    address = caller.memory(caller.number(1), min(caller.number(2), 128))
    family = int.from_bytes(address[:2], "little")
    if family == AF_UNIX:
        path = address[2:].partition(b"\0")[0].decode(errors="replace")
        return Effect(FILE if name == "bind" else MESSAGE, f"{name}({NUMBERED.sub('N', path)})")
    if family == AF_INET:
        port = int.from_bytes(address[2:4], "big")
        return Effect(HTTP, f"{name}({'.'.join(map(str, address[4:8]))}:{port})")
    return Effect(MESSAGE, f"{name}({'netlink' if family == AF_NETLINK else family})")
