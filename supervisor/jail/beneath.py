# SPDX-License-Identifier: Apache-2.0
"""Owns opening a name so that the kernel itself refuses to leave the folder or to follow a link; runs in workers."""

import errno
import os

from supervisor.jail import syscalls

_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08


def open_beneath(folder: int, name: str, flags: int, mode: int = 0) -> int:
    """A descriptor of `name`, one component, in the folder behind `folder`; OSError when anything is in the way.

    Before Linux 5.6, which has no openat2, a name without a slash and O_NOFOLLOW come to the same."""
    if "/" in name or name in {"", ".", ".."}:
        raise OSError(errno.EXDEV, "not one name in the folder", name)
    try:
        return syscalls.openat2(folder, name, flags, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS, mode)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
