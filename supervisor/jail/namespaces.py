# SPDX-License-Identifier: Apache-2.0
"""Owns namespaces: leaving the shared ones, a user namespace of one uid, the pid namespace of the next child.

Runs in the child being confined; the three functions for pid namespaces are the spawner's, around its fork.
"""

import errno
import os
from collections.abc import Iterable

from supervisor.jail import capabilities, syscalls
from supervisor.jail.missing import Missing

NEWPID, NEWUSER = 0x20000000, 0x10000000
_AT_ONCE = {"mount": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000, "net": 0x40000000}


def leave(names: Iterable[str]) -> None:
    """New namespaces for all of `names` that a process can leave by itself: not pid (the parent's affair), not user."""
    flags = sum(_AT_ONCE[name] for name in names if name in _AT_ONCE)
    if flags:
        syscalls.unshare(flags)


def open_own_process_folder() -> int:
    """A descriptor of /proc/self, for `be_alone_as`; to be opened while there is still a /proc."""
    return os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def be_alone_as(uid: int, gid: int, process_folder: int) -> None:
    """A new user namespace in which only `uid` and `gid`, the process's present ones, exist, under their own numbers.

    The kernel fills all capability sets for the new namespace: capabilities.limit_to comes after this. Closes
    `process_folder`. Missing("user-namespace") where the kernel or its settings allow none."""
    try:
        syscalls.unshare(NEWUSER)
    except OSError as error:
        os.close(process_folder)
        if error.errno in {errno.EINVAL, errno.ENOSPC, errno.EPERM, errno.ENOSYS}:
            raise Missing("user-namespace", str(error)) from None
        raise
    # The change of uid made the process undumpable, and with it root the owner of its /proc files.
    capabilities.allow_dump()
    try:
        _write(process_folder, "setgroups", "deny")
        _write(process_folder, "uid_map", f"{uid} {uid} 1")
        _write(process_folder, "gid_map", f"{gid} {gid} 1")
    finally:
        capabilities.forbid_dump()
        os.close(process_folder)


def own_pid_namespace() -> int:
    """A descriptor of the caller's pid namespace, for `return_to_pid_namespace`."""
    return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def enter_new_pid_namespace() -> None:
    """The next fork makes process 1 of a new pid namespace; `return_to_pid_namespace` has to follow that fork."""
    syscalls.unshare(NEWPID)


def return_to_pid_namespace(namespace: int) -> None:
    """Later forks make children in the pid namespace behind the descriptor `namespace` again."""
    syscalls.setns(namespace, NEWPID)


def _write(folder: int, name: str, text: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
