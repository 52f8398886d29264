# SPDX-License-Identifier: Apache-2.0
"""Owns running a piece of a test in a forked child, since confinement can't be taken back; used by the jail's tests."""

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

PATIENCE_S = 20.0


class End(NamedTuple):
    """How the child ended: what its action returned (None if it did not come to that), and its wait status."""

    value: Any
    status: int

    @property
    def signal(self) -> int:
        """The signal that ended it, 0 for none."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0


def in_child(action: Callable[[], object], fork: Callable[[], int] = os.fork) -> End:
    """Run `action` in a forked child; its result (anything msgpack carries) comes back, an exception is `repr`'d."""
    reader, writer = os.pipe()
    pid = fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            os.write(writer, msgpack.packb(action()))
            status = 0
        except OSError as error:
            os.write(writer, msgpack.packb(repr(error)))
        finally:
            os._exit(status)
    os.close(writer)
    answer = _all_of(reader, pid)
    _, wait_status = os.waitpid(pid, 0)
    return End(msgpack.unpackb(answer) if answer else None, wait_status)


def attempt(action: Callable[[], object]) -> int:
    """The errno with which `action` fails, 0 if it succeeds."""
    try:
        action()
    except OSError as error:
        return error.errno or -1
    return 0


def until(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Whether `condition` comes true in time."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.005)
    return True


def status_of(pid: int | str = "self") -> dict[str, str]:
    """Name -> value of /proc/PID/status."""
    # Bytes: text may need a codec's module, from files that a child can no longer read.
    lines = Path(f"/proc/{pid}/status").read_bytes().decode().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


def listed(path: str | Path) -> list[str]:
    """The names in a folder, in order."""
    return sorted(entry.name for entry in Path(path).iterdir())


def _all_of(reader: int, pid: int) -> bytes:
    answer = b""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            break
        piece = os.read(reader, 65536)
        if not piece:
            break
        answer += piece
    os.close(reader)
    return answer
