# SPDX-License-Identifier: Apache-2.0
"""Owns files without a name: a worker fills one, others read it once nobody can write to it any more.

Runs in the supervisor. Nothing of one is left when the processes that have it open are gone, however they ended.
"""

import errno
import fcntl
import os
from contextlib import suppress

from ipc.errors import StateError
from supervisor.loop import Loop

MODE = 0o600
# Whoever has written is killed as soon as it has answered; this is how long its death may take.
PATIENCE_S = 10.0
PAUSE_S = 0.002


class Nameless:
    """One file in `folder`, empty at first. StateError when none can be made there, or it can't be settled."""

    def __init__(self, folder: str) -> None:
        try:
            self.writable = _make(folder)
        except OSError as error:
            raise StateError(f"no file can be made in {folder}: {error.strerror}") from None
        self.readable = -1

    async def settle(self, loop: Loop, size: int) -> int:
        """Its first `size` bytes are all from now on, and stay as they are: a descriptor for reading, ours to close.

        The kernel says that nobody has it open for writing: it grants a lease for reading only then (fcntl(2))."""
        try:
            if os.fstat(self.writable).st_size < size:
                raise StateError(f"a file without a name has less than the {size} bytes that were told")
            os.ftruncate(self.writable, size)
            self.readable = os.open(f"/proc/self/fd/{self.writable}", os.O_RDONLY | os.O_CLOEXEC)
            os.close(self.writable)
            self.writable = -1
            ends = loop.clock.monotonic() + PATIENCE_S
            while not _is_settled(self.readable):
                if loop.clock.monotonic() > ends:
                    raise StateError(f"a file without a name is still being written after {PATIENCE_S:g} s")
                await loop.sleep(PAUSE_S)
        except OSError as error:
            raise StateError(f"a file without a name can't be settled: {error.strerror}") from None
        return self.readable

    def close(self) -> None:
        """Let go of it: unless others have it open, it is no more."""
        for descriptor in (self.writable, self.readable):
            if descriptor >= 0:
                os.close(descriptor)
        self.writable = self.readable = -1


def _make(folder: str) -> int:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, MODE)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL}:
            raise
    return unlinked(folder)


def unlinked(folder: str) -> int:
    """For a file system that knows no such files: one that loses its name at once."""
    path = f"{folder}/.nameless"
    with suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    os.unlink(path)
    return descriptor


def _is_settled(descriptor: int) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True
