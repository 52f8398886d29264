# SPDX-License-Identifier: Apache-2.0
"""Owns what a taken-over worker has in its hands: the channel, and the descriptors that came with its job."""

import ctypes
import os
from typing import NamedTuple

from ipc.channel import Channel

LIBC = ctypes.CDLL(None, use_errno=True)


class Target(NamedTuple):
    """`file` is open for reading and root's alone, `folder` too; `words` follow the attack's name."""

    channel: Channel
    file: int
    folder: int
    words: tuple[str, ...]


def call(function: str, *arguments: object) -> int:
    """A C library function by name; OSError when it fails."""
    return checked(int(getattr(LIBC, function)(*arguments)))


def syscall(number: int, *arguments: object) -> int:
    """A system call by number; OSError when it fails."""
    return checked(int(LIBC.syscall(ctypes.c_long(number), *arguments)))


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
