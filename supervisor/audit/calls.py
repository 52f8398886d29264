# SPDX-License-Identifier: Apache-2.0
"""Owns the system calls that Python does not offer; the one ctypes file of the audit. It decides nothing."""

import ctypes
import os
import struct

# By machine, the numbers of the calls that are made here or in a stopped thread.
NUMBERS = {
    "x86_64": {
        "prctl": 157,
        "openat": 257,
        "mknodat": 259,
        "close": 3,
        "socket": 41,
        "connect": 42,
        "bind": 49,
        "execve": 59,
    },
    "aarch64": {
        "prctl": 167,
        "openat": 56,
        "mknodat": 33,
        "close": 57,
        "socket": 198,
        "connect": 203,
        "bind": 200,
        "execve": 221,
    },
}
_LANDLOCK_CREATE_RULESET, _VERSION = 444, 1
_GET_NO_WRITABLE_CODE = 66
_PIDFD_GETFD = 438

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = _libc.syscall.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def number(name: str) -> int | None:
    """The number of a call, None on a machine that is not known here."""
    numbers = NUMBERS.get(os.uname().machine)
    return numbers[name] if numbers is not None else None


def landlock_version() -> int:
    """The kernel's version of Landlock, 0 if it has none."""
    return max(0, int(_libc.syscall(ctypes.c_long(_LANDLOCK_CREATE_RULESET), None, ctypes.c_long(0), _VERSION)))


def can_deny_writable_code() -> bool:
    """Whether the kernel can refuse memory that is both writable and executable for good (from Linux 6.3)."""
    return int(_libc.prctl(_GET_NO_WRITABLE_CODE, *(ctypes.c_ulong(0),) * 4)) >= 0


def descriptor_of(pid: int, descriptor: int) -> int:
    """A descriptor of this process for what `descriptor` of process `pid` is; OSError when it can't be had."""
    process = os.pidfd_open(pid)
    try:
        ctypes.set_errno(0)
        numbers = (ctypes.c_long(number) for number in (_PIDFD_GETFD, process, descriptor, 0))
        result = int(_libc.syscall(*numbers))
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result
    finally:
        os.close(process)


def ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> int:
    """One request with plain numbers; OSError when it fails."""
    ctypes.set_errno(0)
    result: int = _libc.ptrace(request, tid, address, data)
    failure = ctypes.get_errno()
    if result == -1 and failure:
        raise OSError(failure, os.strerror(failure))
    return result


def ptrace_block(request: int, tid: int, address: int, content: bytes, *, as_vector: bool = False) -> bytes:
    """One request with `content` at `data`, or in a struct iovec there; what stands there afterwards."""
    block = ctypes.create_string_buffer(content, len(content))
    place = ctypes.addressof(block)
    vector = ctypes.create_string_buffer(struct.pack("=QQ", place, len(content)))
    ptrace(request, tid, address, ctypes.addressof(vector) if as_vector else place)
    return block.raw
