# SPDX-License-Identifier: Apache-2.0
"""Owns telling systemd's journal each record of the audit log, with its parts as fields: a copy out of our reach.

Runs in the supervisor. It never waits: what the journal does not take at once is kept, within bounds, and tried again.
"""

import os
import socket
from collections import deque
from collections.abc import Callable

import msgspec

from supervisor.audit_log_entry import Entry

SOCKET = "/run/systemd/journal/socket"
NAME = "agent-supervisor-audit"
# `journalctl -t agent-supervisor-audit` has them all; fields of ours narrow it (AGENT_SUPERVISOR_EVENT=violation).
PREFIX = "AGENT_SUPERVISOR_"
# Of syslog: warning, info.
URGENT, USUAL = 4, 6
# A socket may hold as few as ten datagrams; a provisioning makes some of them a millisecond.
AGAIN_S = 0.02
MOST_WAITING = 512
FAREWELL_S = 0.2


class Mirror:
    """The way to the journal. Looked for once: where systemd runs, its journal was there before us."""

    def __init__(self, later: Callable[[float, Callable[[], None]], object], path: str = SOCKET) -> None:
        """`later` runs an action after so many seconds."""
        self._later = later
        self._path = path
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._socket: socket.socket | None = None
        if os.path.exists(path):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def show(self, entry: Entry, seq: int, digest: str, *, urgent: bool) -> None:
        """Hand over `entry`, which is record `seq` with hash `digest`; `seq` 0 for one that could not be written."""
        if self._socket is None:
            return
        self._waiting.append(datagram(entry, seq, digest, urgent=urgent))
        if len(self._waiting) == 1:
            self._send()

    def finish(self) -> None:
        """Hand over what waits, at last by waiting for the journal, but not for long."""
        if self._socket is not None:
            self._socket.settimeout(FAREWELL_S)
            self._send()

    def _send(self) -> None:
        """As much as the journal takes now; the rest a little later."""
        while self._waiting and self._socket is not None:
            try:
                self._socket.sendto(self._waiting[0], socket.MSG_NOSIGNAL, self._path)
            except (BlockingIOError, TimeoutError):
                self._later(AGAIN_S, self._send)
                return
            except OSError:
                # It is gone. A new one may come; what it was not told stands in the file.
                self._waiting.clear()
                return
            self._waiting.popleft()


def datagram(entry: Entry, seq: int, digest: str, *, urgent: bool) -> bytes:
    """The journal's native form: a field a line. No value has a line's end in it: an entry is printable throughout."""
    parts: dict[str, object] = msgspec.to_builtins(entry)
    words = [entry.event, entry.worker, entry.request, entry.decision, entry.detail]
    fields = {
        "MESSAGE": "audit: " + " ".join(word for word in words if word),
        "PRIORITY": URGENT if urgent else USUAL,
        "SYSLOG_IDENTIFIER": NAME,
        **{f"{PREFIX}{name.upper()}": _text(value) for name, value in parts.items()},
        f"{PREFIX}SEQ": seq,
        f"{PREFIX}HASH": digest,
    }
    return "".join(f"{name}={value}\n" for name, value in fields.items()).encode()


def _text(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value
