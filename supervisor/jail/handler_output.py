# SPDX-License-Identifier: Apache-2.0
"""Owns what a vendor's command prints: the start of it is kept, the rest never fills the disk; and the log of commands.

Runs in the warden, as root, in folders where the vendor may have put anything: no link is followed, and nothing but a
regular file of one name is written to.
"""

import os
import stat
from contextlib import suppress

from supervisor.jail import syscalls
from supervisor.jail.handler_folder import MOST_OUTPUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.jail.handler_order import HandlerOrder

# Of each stream: as many characters as are told, whatever they are encoded in.
KEPT_BYTES = 4 * MOST_OUTPUT
MOST_LOG_BYTES = 10 * 1024 * 1024
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_TEMPLATE = "[stdout]\n{}\n\n[stderr]\n{}"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOG = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Stream:
    """One of a command's two, a file without a name in one of `folders`, the first that can have such a one."""

    def __init__(self, *folders: int) -> None:
        self.descriptor = _nameless(folders)
        self._cut = KEPT_BYTES

    def cut(self) -> bool:
        """Give back the disk's room beyond the start; whether anything came since the last time."""
        size = os.fstat(self.descriptor).st_size
        if size <= self._cut:
            return False
        syscalls.fallocate(self.descriptor, _PUNCH_HOLE | _KEEP_SIZE, self._cut, size - self._cut)
        self._cut = size
        return True

    def text(self) -> str:
        """The start of it."""
        return os.pread(self.descriptor, KEPT_BYTES, 0).decode("utf-8", "replace")[:MOST_OUTPUT]


def whole(stdout: str, stderr: str) -> str:
    """All that was kept of both."""
    return _TEMPLATE.format(stdout, stderr)


def combined(stdout: str, stderr: str) -> str:
    """Both in MOST_OUTPUT characters: half of it for each, and what one leaves is the other's. Ends are kept."""
    room = MOST_OUTPUT - len(_TEMPLATE.format("", ""))
    of_stdout = max(room // 2, room - len(stderr))
    stdout = stdout[-of_stdout:]
    left = room - len(stdout)
    return _TEMPLATE.format(stdout, stderr[-left:])


def log_folder(order: "HandlerOrder") -> int:
    """The handler's folder of logs, made if it is not there; the caller's to close. OSError."""
    os.makedirs(order.log_folder, mode=0o755, exist_ok=True)
    above = os.open(order.log_folder, _FOLDER)
    try:
        with suppress(FileExistsError):
            os.mkdir(order.handler, 0o755, dir_fd=above)
        return os.open(order.handler, _FOLDER, dir_fd=above)
    finally:
        os.close(above)


def log(order: "HandlerOrder", text: str) -> None:
    """Add to the log of the handler's commands, and keep the last 10 MiB of it. OSError."""
    folder = log_folder(order)
    try:
        special = order.extension not in {"", order.handler}
        name = f"CommandExecution_{order.extension}.log" if special else "CommandExecution.log"
        descriptor = os.open(name, _LOG, 0o644, dir_fd=folder)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
                raise OSError(0, f"{name} is no file, or has another name")
            os.write(descriptor, text.encode("utf-8", "replace"))
            _shorten(folder, name, descriptor)
        finally:
            os.close(descriptor)
    finally:
        os.close(folder)


def _shorten(folder: int, name: str, descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    if size <= MOST_LOG_BYTES:
        return
    temporary = f".{name}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fresh = os.open(temporary, flags, 0o644, dir_fd=folder)
    try:
        offset = size - MOST_LOG_BYTES
        while offset < size and (copied := os.sendfile(fresh, descriptor, offset, size - offset)):
            offset += copied
    finally:
        os.close(fresh)
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _nameless(folders: tuple[int, ...]) -> int:
    problem = OSError(0, "no folder for output")
    for folder in folders:
        try:
            # At an end of its own: who writes after a cut writes there.
            flags = os.O_TMPFILE | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
            return os.open(".", flags, 0o600, dir_fd=folder)
        except OSError as error:
            problem = error
    raise problem
