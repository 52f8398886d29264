# SPDX-License-Identifier: Apache-2.0
"""A control server on a loop of its own thread, and a socket folder that other users may enter."""

import contextlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from supervisor.clock import SystemClock
from supervisor.control import ControlServer, Duties, listen
from supervisor.loop import Loop
from supervisor.status import Overview, ProcessRow, Snapshot, Status

if TYPE_CHECKING:
    from supervisor.audit_log_entry import Entry

NOBODY = 65534


class Served:
    """What a test sees of the server: its socket, counters and what its duties were called with."""

    def __init__(self, path: Path, group: int | None, rows: int, controls: Mapping[str, Callable[[str], str]]) -> None:
        self.path = path
        self.rows = rows
        self.audits: list[str] = []
        self.entries: list[Entry] = []
        self.cgroups: list[str] = []
        self.outside = True
        self.loop = Loop(SystemClock())
        self.status = Status()
        self.extensions: dict[str, object] = {}
        reads = {
            "ps": lambda: snapshot(self.rows).as_data(),
            "version": lambda: {"version": "0.1.0"},
            "status": lambda: msgspec.to_builtins(self.status),
            "extensions": lambda: self.extensions,
        }
        self.duties = Duties(reads, controls, self._judge, self.audits.append, record=self.entries.append)
        self.server = ControlServer(self.loop, listen(path, group), group, self.duties)

    def _judge(self, cgroup: str) -> bool:
        self.cgroups.append(cgroup)
        return self.outside


def snapshot(rows: int) -> Snapshot:
    """The test process itself first, then `rows` - 1 that do not run."""
    overview = Overview("0.1.0", "steady", "done", "Ready accepted", "3", "reduced", 3661.0, 1.7e9, ("landlock",))
    own = ProcessRow("supervisor", "supervisor", os.getpid(), 0, "ready", 65.0, 1, "", ("kill",), 2, "/x", "reduced")
    more = (
        ProcessRow(f"parser.{number}", "parser", 0, 61000, "waiting", 3.0, 9, "killed by \x1b[2J SIGSYS", cgroup="/y")
        for number in range(1, rows)
    )
    return Snapshot(overview, (own, *more))


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that every user may pass through (pytest's own are root's alone)."""
    folder = Path(tempfile.mkdtemp(prefix="agent-supervisor-test-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def serve(
    path: Path, group: int | None = None, *, rows: int = 3, controls: Mapping[str, Callable[[str], str]] | None = None
) -> Iterator[Served]:
    """A server that answers until the end of the block, in a thread of its own."""
    served = Served(path, group, rows, controls or {})
    ours, loops = socket.socketpair()
    served.loop.watch(loops.fileno(), served.loop.stop)
    thread = threading.Thread(target=served.loop.run)
    thread.start()
    try:
        yield served
    finally:
        ours.send(b"x")
        thread.join(10)
        served.server.close()
        ours.close()
        loops.close()
