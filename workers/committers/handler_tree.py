# SPDX-License-Identifier: Apache-2.0
"""Owns steps in a file tree that others rearrange meanwhile: each name in the folder before it, through no link, across
no mount. Runs in the committer of handlers' files, as root who may enter any folder; handlers are root, too.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
DEEPEST = 100


class Busy(OSError):
    """Something is mounted there."""


class Left(NamedTuple):
    """How many parts can't go, and the first of them with its reason: a handler may leave more than memory holds."""

    parts: int = 0
    first: str = ""

    def told(self) -> str:
        """As a sentence; empty for none."""
        return f"{self.parts} parts stay, the first is {self.first}" if self.parts else ""


def enter(folder: int, name: str) -> int:
    """The folder `name` in `folder`, for listing. OSError when it is none, Busy when it is another mount's."""
    inner = os.open(name, FOLDER, dir_fd=folder)
    if _mount(inner) != _mount(folder):
        os.close(inner)
        raise Busy(errno.EBUSY, "something is mounted there, and stays as it is", name)
    return inner


@contextlib.contextmanager
def entered(folder: int, name: str) -> Iterator[int]:
    """The same, for a while."""
    inner = enter(folder, name)
    try:
        yield inner
    finally:
        os.close(inner)


def make_folder(folder: int, name: str, mode: int) -> int:
    """A new folder, open, with exactly `mode`."""
    os.mkdir(name, 0o700, dir_fd=folder)
    inner = os.open(name, FOLDER, dir_fd=folder)
    os.fchmod(inner, mode)
    return inner


def is_there(folder: int, name: str) -> bool:
    """Whether anything is called `name` in `folder`, be it a link to nowhere."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def is_folder(folder: int, name: str) -> bool:
    """Whether `name` in `folder` is a folder itself."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def rename(folder: int, name: str, new: str) -> None:
    """Within one folder; what is called `new` already is in the way if it is a folder with anything in it."""
    os.rename(name, new, src_dir_fd=folder, dst_dir_fd=folder)


def names(folder: int) -> Iterator[str]:
    """What is in `folder`, as it comes: there may be more than memory holds."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def remove(folder: int, name: str, depth: int = DEEPEST) -> Left:
    """Remove `name`, all that is in it first. What goes by itself meanwhile is no problem; what can't go stays and is
    told, and everything else goes."""
    try:
        if not is_folder(folder, name):
            os.unlink(name, dir_fd=folder)
            return Left()
        if depth == 0:
            raise OSError(errno.ELOOP, f"more than {DEEPEST} folders deep")
        with entered(folder, name) as inner:
            left = _emptied(inner, depth - 1)
        if left.parts:
            return Left(left.parts, f"{_shown(name)}/{left.first}")
        os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        return Left()
    except OSError as error:
        return Left(1, f"{_shown(name)}: {error.strerror}")
    return Left()


def _emptied(folder: int, depth: int) -> Left:
    parts, first = 0, ""
    for name in names(folder):
        left = remove(folder, name, depth)
        parts, first = parts + left.parts, first or left.first
    return Left(parts, first)


def _shown(name: str) -> str:
    """A handler may name a file with anything: what can't be written in a message, too."""
    return ascii(name)[1:-1]


def _mount(descriptor: int) -> bytes:
    """The number of the mount that it lies on: bind mounts have no other device."""
    lines = _content(f"/proc/self/fdinfo/{descriptor}").split(b"\n")
    return next(line for line in lines if line.startswith(b"mnt_id:"))


def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
