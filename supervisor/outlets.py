# SPDX-License-Identifier: Apache-2.0
"""Owns where log lines go: log file, standard error, console; part of the log sink of supervisor and spawner.

An outlet that can't take a line counts it and says so with the next one it can take. It never raises and never waits.
"""

import errno
import fcntl
import os
import select
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping

import msgspec

# At most this goes out in one write, which a pipe takes whole (PIPE_BUF).
LINE_BYTES = 4096
# Root's alone: what is redacted there is still nobody else's business.
MODE = 0o600
# The least urgent that is echoed to the console: syslog's number for "info".
ECHOED = 6
# From <asm-generic/ioctls.h>: how many bytes a terminal has still to send.
TIOCOUTQ = 0x5411


class Line(msgspec.Struct, frozen=True):
    """One finished line in its parts, all printable ASCII. `stamp` is UTC with milliseconds and a Z."""

    priority: int
    level: str
    stamp: str
    process: str
    body: str


class Outlet(ABC):
    """Base: counts what could not be written."""

    def __init__(self) -> None:
        self.lost = 0
        self._reason = ""

    def write(self, line: Line) -> None:
        """Write `line`, or count it as lost."""
        if self.lost:
            notice = f"{self.lost} lines were lost here: {self._reason}"
            told = self._form(msgspec.structs.replace(line, priority=4, level="WARNING", body=notice))
            if not self._try(told):
                return
            self.lost = 0
        self._try(self._form(line))

    def close(self) -> None:  # noqa: B027 - most outlets opened nothing
        """Let go of what the outlet itself opened."""

    def _form(self, line: Line) -> bytes:
        return f"{line.stamp} {line.level} {line.process} {line.body}\n".encode("ascii")

    def _try(self, data: bytes) -> bool:
        """Write `data`, or count one more loss."""
        try:
            self._put(data)
        except OSError as error:
            self.lost += 1
            self._reason = error.strerror or type(error).__name__
            return False
        return True

    @abstractmethod
    def _put(self, data: bytes) -> None:
        """Write one line; OSError when that fails."""


class FileOutlet(Outlet):
    """The log file. Opened once, and anew when something else stands at its path (log rotation)."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = path
        self._descriptor = -1
        self._identity = (0, 0)
        self._torn = False

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _put(self, data: bytes) -> None:
        self._follow()
        if self._torn:
            data = b"\n" + data
        written = os.write(self._descriptor, data)
        self._torn = written < len(data)
        if self._torn:
            raise OSError(0, "only a part of a line could be written")

    def _follow(self) -> None:
        """Have the file open that is at the path now. A look at its inode for each line costs 2 microseconds."""
        try:
            here = os.lstat(self._path)
            if self._descriptor >= 0 and (here.st_dev, here.st_ino) == self._identity:
                return
        except OSError:
            pass  # gone, or out of reach: opening it will tell
        try:
            self._open()
        except OSError:
            # The old file still takes lines, wherever it was moved to.
            if self._descriptor < 0:
                raise

    def _open(self) -> None:
        # Never through a link, and never waiting for a reader of a FIFO.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, MODE)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(0, "the log's path is not a regular file")
            if stat.S_IMODE(facts.st_mode) & ~MODE:
                os.fchmod(descriptor, stat.S_IMODE(facts.st_mode) & MODE)
        except OSError:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor, self._identity, self._torn = descriptor, (facts.st_dev, facts.st_ino), False


class ConsoleOutlet(Outlet):
    """The machine's console, as a rule a serial line: lines of info and above, and what is to be shown, until `close`.

    A console that is absent, full or slow loses lines. It stays open between them: the last close of a serial line
    waits, for half a minute if need be, until all is sent."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = path
        self._descriptor = -1
        self._torn = False
        self._closed = False

    def write(self, line: Line) -> None:
        if not self._closed and line.priority <= ECHOED:
            super().write(line)

    def show(self, text: str) -> None:
        """All of `text` in one write, so that no other program's line stands in it."""
        if not self._closed:
            self._try(text.encode("ascii"))

    def close(self) -> None:
        """Write nothing more. What waits to be sent is sent, and then keeps the descriptor until the process ends."""
        self._closed = True
        if self._descriptor >= 0 and not _has_to_send(self._descriptor):
            os.close(self._descriptor)
        self._descriptor = -1

    def _put(self, data: bytes) -> None:
        if self._descriptor < 0:
            # Never our controlling terminal, never waiting for a carrier or a reader; appending where it is a file.
            flags = os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags)
        if self._torn:
            data = b"\n" + data
        try:
            self._torn = os.write(self._descriptor, data) < len(data)
            if self._torn:
                raise BlockingIOError(errno.EAGAIN, "it takes no more now")
        except BlockingIOError:
            raise
        except OSError:
            # Hung up, or its reader is gone: whoever stands there next is asked anew.
            os.close(self._descriptor)
            self._descriptor = -1
            raise


class StreamOutlet(Outlet):
    """A descriptor opened by others (standard error): not ours to close, nor to make non-blocking.

    `journal` writes `<N>` in front, by which the journal knows the level; it has the time itself."""

    def __init__(self, descriptor: int, *, journal: bool) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._journal = journal
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def _form(self, line: Line) -> bytes:
        if not self._journal:
            return super()._form(line)
        return f"<{line.priority}>{line.process} {line.body}\n".encode("ascii")

    def _put(self, data: bytes) -> None:
        # Others share this open file, so O_NONBLOCK would be theirs, too. What poll calls writable takes a whole line.
        if not self._poll.poll(0):
            raise OSError(0, "nobody reads standard error")
        os.write(self._descriptor, data)


def _has_to_send(descriptor: int) -> bool:
    """Whether it is a terminal with bytes that wait to be sent."""
    try:
        return any(fcntl.ioctl(descriptor, TIOCOUTQ, bytes(4)))
    except OSError:
        return False


def is_journal(environment: Mapping[str, str], descriptor: int) -> bool:
    """True if `descriptor` is the stream to the journal that systemd names in JOURNAL_STREAM (device:inode)."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    if not (device.isdecimal() and inode.isdecimal()):
        return False
    try:
        facts = os.fstat(descriptor)
    except OSError:
        return False
    return (facts.st_dev, facts.st_ino) == (int(device), int(inode))
