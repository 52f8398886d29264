# SPDX-License-Identifier: Apache-2.0
"""Owns how a file that a handler has left is copied, without a look into it: what it says is a parser's to read.

Runs in the supervisor. A handler is root and may have put anything there, and change it meanwhile: no step follows a
link, nothing but a regular file of one name is opened, nothing waits, and no byte of it comes into this process.
"""

import errno
import fcntl
import os
import stat

import msgspec

from ipc.descriptors import SEALS
from ipc.errors import AgentError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NO_FOLDER = frozenset({errno.ELOOP, errno.ENOTDIR})


class Stamp(msgspec.Struct, frozen=True):
    """Which file it is, and by when; another stamp: its content may be another."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class Unreadable(AgentError):
    """It can't be copied now; `lasting`: nor later, as long as nobody puts another one there."""

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        super().__init__(text)
        self.lasting = lasting


class TooLarge(AgentError):
    """The file of this stamp has more bytes than are read of such a one."""

    def __init__(self, text: str, stamp: Stamp) -> None:
        super().__init__(text)
        self.stamp = stamp


def enter(folder: str, *steps: str) -> int:
    """The folder that is reached from `folder` by `steps`; the caller's to close. FileNotFoundError, Unreadable."""
    at, path = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), folder
    for step in steps:
        path = f"{path}/{step}"
        above = at
        try:
            at = os.open(step, _FOLDER, dir_fd=above)
        except FileNotFoundError:
            raise
        except OSError as error:
            text = "is no folder, or a link" if error.errno in _NO_FOLDER else f"can't be opened: {error.strerror}"
            raise Unreadable(f"{path} {text}", lasting=error.errno in _NO_FOLDER) from None
        finally:
            os.close(above)
    return at


def stamp(folder: int, name: str) -> Stamp:
    """That of the regular file `name`, which is not opened. FileNotFoundError, Unreadable."""
    try:
        return _judged(os.stat(name, dir_fd=folder, follow_symlinks=False), name)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(f"{name} can't be looked at: {error.strerror}") from None


def copy(folder: int, name: str, most_bytes: int) -> tuple[Stamp, int]:
    """Its stamp, and all that it held at one moment, as a sealed memfd. FileNotFoundError, Unreadable, TooLarge."""
    # Before it is opened: an open device may have done something already.
    stamp(folder, name)
    try:
        source = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(f"{name} can't be opened: {error.strerror}") from None
    try:
        before = _judged(os.fstat(source), name)
        if before.size > most_bytes:
            raise TooLarge(f"{name} has {before.size} bytes: expected at most {most_bytes}", before)
        return before, _sealed_copy(source, before, name)
    finally:
        os.close(source)


def _judged(status: os.stat_result, name: str) -> Stamp:
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable(f"{name} is no regular file (mode {status.st_mode:o}): expected one", lasting=True)
    # A second name may be that of a file elsewhere, which nobody gave us; or it is put in its place by one just now.
    if status.st_nlink != 1:
        raise Unreadable(f"{name} has {status.st_nlink} names: expected a file of one name")
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _sealed_copy(source: int, before: Stamp, name: str) -> int:
    target = os.memfd_create("left-file", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        copied = 0
        while copied < before.size and (piece := os.sendfile(target, source, copied, before.size - copied)):
            copied += piece
        if copied != before.size or _judged(os.fstat(source), name) != before:
            raise Unreadable(f"{name} changed while it was read")
        fcntl.fcntl(target, fcntl.F_ADD_SEALS, SEALS)
    except OSError as error:
        os.close(target)
        raise Unreadable(f"{name} can't be read: {error.strerror}") from None
    except AgentError:
        os.close(target)
        raise
    return target
