# SPDX-License-Identifier: Apache-2.0
"""Owns the other end of a filter that asks: takes it over from the process that made it, reads questions, answers them.

Runs in the test, as root. As long as it is open, whoever asks waits for the answer.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import NamedTuple

from tests.fabric.waiting import until

_RECEIVE, _SEND, _VALID = 0xC0502100, 0xC0182101, 0x40082102
_SET_FLAGS, _SYNC_WAKE_UP = 0x40082104, 1
_CONTINUE = 1
_QUESTION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_PIDFD_GETFD = 438  # the same on every machine
_libc = ctypes.CDLL(None, use_errno=True)


class Question(NamedTuple):
    """A thread `tid` is about to make system call `number`."""

    id: int
    tid: int
    number: int
    arguments: tuple[int, ...]


class Listener:
    """The questions of one filter. `fileno` becomes readable with each."""

    def __init__(self, pid: int) -> None:
        """Take it from process `pid`, which has it or is about to; WaitedInVain when it does not come."""
        found = until("a filter that asks", lambda: _listener_of(pid), every_s=0.001)
        pidfd = os.pidfd_open(pid)
        try:
            self._descriptor: int = _libc.syscall(_PIDFD_GETFD, pidfd, found, 0)
            if self._descriptor < 0:
                raise OSError(ctypes.get_errno(), "the listener can't be taken over")
        finally:
            os.close(pidfd)
        with contextlib.suppress(OSError):  # a hint to the scheduler, since Linux 6.6
            fcntl.ioctl(self._descriptor, _SET_FLAGS, _SYNC_WAKE_UP)

    def fileno(self) -> int:
        return self._descriptor

    def question(self) -> Question | None:
        """The next; None when whoever asked is gone."""
        buffer = bytearray(_QUESTION.size)
        try:
            fcntl.ioctl(self._descriptor, _RECEIVE, buffer, True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        number, tid, _, call, _, _, *arguments = _QUESTION.unpack(buffer)
        return Question(number, tid, call, tuple(arguments))

    def waits(self, question: Question) -> bool:
        """Is whoever asked still there, and what was read of it therefore its own?"""
        try:
            fcntl.ioctl(self._descriptor, _VALID, struct.pack("=Q", question.id))
        except OSError:
            return False
        return True

    def let(self, question: Question) -> None:
        """Have the call happen."""
        with contextlib.suppress(FileNotFoundError):  # killed meanwhile
            fcntl.ioctl(self._descriptor, _SEND, _ANSWER.pack(question.id, 0, 0, _CONTINUE))

    def close(self) -> None:
        os.close(self._descriptor)


def _listener_of(pid: int) -> int | None:
    folder = Path(f"/proc/{pid}/fd")
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):
                if str(entry.readlink()) == "anon_inode:seccomp notify":
                    return int(entry.name)
    return None
