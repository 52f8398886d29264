# SPDX-License-Identifier: Apache-2.0
"""Owns the removal of files by name: in one folder, or all below it; never through a link, at no part of the path.

Used by the supervisor for its own folders and by a committer for others'. What is not there is no error.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice

MOST_ENTRIES = 10_000
DEEPEST = 16
_WAY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_matching(folder: str, patterns: Sequence[str], root: str = "/") -> Iterator[str]:
    """Unlink what lies in `folder` (absolute, below `root`) under a name that one of `patterns` (shell's) matches, but
    for folders. Each path is told once it is gone; when all are told, that lasts. OSError names one that can't go."""
    descriptor = _open(folder, root)
    if descriptor is None:
        return
    try:
        names = [name for name in _entries(descriptor, folder) if any(fnmatchcase(name, one) for one in patterns)]
        yield from (f"{folder}/{name}" for name in names if _unlink(descriptor, folder, name))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def empty(folder: str, root: str = "/") -> Iterator[str]:
    """Remove all that is in `folder`, folders too; the folder stays. Tells and raises as `remove_matching`."""
    descriptor = _open(folder, root)
    if descriptor is None:
        return
    try:
        yield from _empty(descriptor, folder, DEEPEST)
    finally:
        os.close(descriptor)


def folders(folder: str, root: str = "/") -> list[str]:
    """The names of the folders in `folder`, links to folders not among them; empty when it is not there."""
    descriptor = _open(folder, root)
    if descriptor is None:
        return []
    try:
        return [name for name in _entries(descriptor, folder) if _is_folder(descriptor, name)]
    finally:
        os.close(descriptor)


def _empty(descriptor: int, folder: str, depth: int) -> Iterator[str]:
    if depth == 0:
        raise OSError(errno.ELOOP, f"more than {DEEPEST} folders deep", folder)
    for name in _entries(descriptor, folder):
        path = f"{folder}/{name}"
        if _unlink(descriptor, folder, name):
            yield path
        elif _is_folder(descriptor, name):
            yield from _remove_folder(descriptor, name, path, depth - 1)
    os.fsync(descriptor)


def _remove_folder(descriptor: int, name: str, path: str, depth: int) -> Iterator[str]:
    below = os.open(name, _LIST, dir_fd=descriptor)
    try:
        if os.fstat(below).st_dev != os.fstat(descriptor).st_dev:
            return  # another file system is mounted there: that is nobody's who asked for this
        yield from _empty(below, path, depth)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=descriptor)
    yield path


def _open(folder: str, root: str) -> int | None:
    """`folder` for listing; None when it, or a folder above it, is not there or is no folder but a link."""
    descriptor = os.open(root, _WAY)
    parts = [part for part in folder.split("/") if part]
    try:
        for number, part in enumerate(parts, 1):
            below = os.open(part, _LIST if number == len(parts) else _WAY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
    except OSError as error:
        os.close(descriptor)
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return None
        raise OSError(error.errno, os.strerror(error.errno or 0), folder) from None
    return descriptor


def _entries(descriptor: int, folder: str) -> list[str]:
    with os.scandir(descriptor) as entries:
        names = [entry.name for entry in islice(entries, MOST_ENTRIES + 1)]
    if len(names) > MOST_ENTRIES:
        raise OSError(errno.EFBIG, f"holds more than {MOST_ENTRIES} files", folder)
    return sorted(names)


def _unlink(descriptor: int, folder: str, name: str) -> bool:
    """Unlink what is no folder; False for a folder, and for what somebody else removed first."""
    try:
        if _is_folder(descriptor, name):
            return False
        os.unlink(name, dir_fd=descriptor)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{folder}/{name}") from None
    return True


def _is_folder(descriptor: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
