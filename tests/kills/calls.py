# SPDX-License-Identifier: Apache-2.0
"""Owns which system calls are effects, and the filter that has the kernel ask about each of them before it happens.

Runs in the test. The filter follows no pointer: what a write goes to is looked at in effects.py.
"""

import os
import struct
from typing import NamedTuple

import pyseccomp

FILE, MOUNT, MESSAGE, HTTP, PROCESS = "file", "mount", "message", "http", "process"
CLASSES = (FILE, MOUNT, MESSAGE, HTTP, PROCESS)
# How arguments are told: `p0` the path at argument 0; `a0` a folder's descriptor at 0 and a path at 1; `f0` what
# descriptor 0 is; `w0` the same with what is written; `s0` a socket, `g0` a whom-pidfd, `k0` a pid, `b1` a bare word.
EFFECTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("creat", "mkdir", "rmdir", "unlink", "chmod", "chown", "lchown", "mknod"), (FILE, "p0")),
    **dict.fromkeys(("truncate", "utime", "utimes", "setxattr", "lsetxattr"), (FILE, "p0")),
    **dict.fromkeys(("removexattr", "lremovexattr", "open"), (FILE, "p0")),
    **dict.fromkeys(("openat", "openat2", "mkdirat", "unlinkat", "mknodat", "utimensat", "futimesat"), (FILE, "a0")),
    **dict.fromkeys(("fchmodat", "fchmodat2", "fchownat"), (FILE, "a0")),
    **dict.fromkeys(("rename", "link"), (FILE, "p0 p1")),
    **dict.fromkeys(("renameat", "renameat2", "linkat"), (FILE, "a0 a2")),
    "symlink": (FILE, "p1"),
    "symlinkat": (FILE, "a1"),
    **dict.fromkeys(("fchmod", "fchown", "ftruncate", "fallocate", "fsync", "fdatasync", "syncfs"), (FILE, "f0")),
    **dict.fromkeys(("fsetxattr", "fremovexattr", "sendfile"), (FILE, "f0")),
    "copy_file_range": (FILE, "f2"),
    **dict.fromkeys(("write", "pwrite64"), (FILE, "w0")),
    **dict.fromkeys(("writev", "pwritev", "pwritev2"), (FILE, "v0")),
    **dict.fromkeys(("sync", "sethostname", "setdomainname"), (FILE, "")),
    "mount": (MOUNT, "p1 b2"),
    **dict.fromkeys(("umount2", "pivot_root", "chroot"), (MOUNT, "p0")),
    **dict.fromkeys(("move_mount", "mount_setattr", "fsmount", "fsconfig", "fsopen", "open_tree"), (MOUNT, "")),
    **dict.fromkeys(("setns", "unshare"), (MOUNT, "")),
    "sendto": (MESSAGE, "s0"),
    "sendmsg": (MESSAGE, "m0"),
    "sendmmsg": (MESSAGE, "m0"),
    "connect": (MESSAGE, "c1"),
    "bind": (MESSAGE, "c1"),
    "fcntl": (MESSAGE, "f0"),
    **dict.fromkeys(("fork", "vfork", "clone", "clone3"), (PROCESS, "")),
    "execve": (PROCESS, "p0"),
    "execveat": (PROCESS, "a0"),
    "exit_group": (PROCESS, ""),
    **dict.fromkeys(("kill", "tgkill"), (PROCESS, "k0")),
    "pidfd_send_signal": (PROCESS, "g0"),
}
# The end of what it does, and no effect of its own: the gap before it is the last.
END = "exit_group"

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ADD_SEALS, _CLONE_THREAD = 1033, 0x10000
_LOAD, _EQUAL, _ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000


class _When(NamedTuple):
    """Ask only if argument `argument`, compared by `how` with `value`, is (or with `unless`: is not) so."""

    argument: int
    how: int
    value: int
    unless: bool = False


_CONDITIONS = {
    "open": _When(1, _ANY, _WRITES),
    "openat": _When(2, _ANY, _WRITES),
    "fcntl": _When(1, _EQUAL, _ADD_SEALS),
    "clone": _When(0, _ANY, _CLONE_THREAD, unless=True),
}


def numbers() -> dict[int, str]:
    """System-call number -> name, for those effects that this machine has."""
    found = {pyseccomp.resolve_syscall(pyseccomp.system_arch(), name): name for name in EFFECTS}
    return {number: name for number, name in found.items() if number >= 0}


def program() -> bytes:
    """The filter, as the kernel takes it."""
    code = [_instruction(_LOAD, 0)]
    for number, name in numbers().items():
        when = _CONDITIONS.get(name)
        if when is None:
            code += [_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, _NOTIFY)]
            continue
        then = (_ALLOW, _NOTIFY) if when.unless else (_NOTIFY, _ALLOW)
        code += [
            _instruction(_EQUAL, number, 0, 4),
            _instruction(_LOAD, 16 + 8 * when.argument),
            _instruction(when.how, when.value, 0, 1),
            *(_instruction(_RETURN, verdict) for verdict in then),
        ]
    return b"".join([*code, _instruction(_RETURN, _ALLOW)])


def _instruction(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_so, if_not, value)
