# SPDX-License-Identifier: Apache-2.0
"""Owns how the supervisor writes its own files: whole or not at all, with the right mode from the first instant.

Runs in the supervisor, only below its own folders. It never follows a link at the name it writes.
"""

import os
import stat
from collections.abc import Callable

from ipc.errors import StateError

PRIVATE = 0o600


def make_folder(path: str, mode: int) -> None:
    """The folder `path`, root's, with exactly `mode`; an existing one that is wider is tightened."""
    try:
        os.makedirs(path, mode=mode, exist_ok=True)
        status = os.stat(path, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0:
            raise StateError(f"{path} is there, but is no folder of root's")
        if stat.S_IMODE(status.st_mode) != mode:
            os.chmod(path, mode)
    except OSError as error:
        raise StateError(f"{path} can't be made: {error.strerror}") from None


def write_whole(path: str, content: bytes, mode: int) -> None:
    """Replace `path` by `content`: written beside it, flushed to disk, renamed. StateError when any of it fails."""
    _replace(path, lambda descriptor: _write_all(descriptor, content), mode)


def copy_whole(path: str, source: int, span: tuple[int, int], mode: int) -> None:
    """The same with the bytes at `span` (offset, size) of the file `source`, which never come into this process."""
    _replace(path, lambda descriptor: _copy_all(descriptor, source, *span), mode)


def _replace(path: str, fill: Callable[[int], None], mode: int) -> None:
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}.new"
    try:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            os.fchmod(descriptor, mode)
            fill(descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
        _flush_folder(folder)
    except OSError as error:
        raise StateError(f"{path} can't be written: {error.strerror}") from None


def remove(path: str) -> None:
    """Unlink `path`, for good before this returns; nothing happens if it is not there. StateError when it can't be."""
    try:
        os.unlink(path)
        _flush_folder(path.rpartition("/")[0])
    except FileNotFoundError:
        return
    except OSError as error:
        raise StateError(f"{path} can't be removed: {error.strerror}") from None


def read_text(path: str, limit: int = 65536) -> str | None:
    """The text of a file of at most `limit` bytes; None when it is absent, unreadable or no text."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(descriptor, limit).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    finally:
        os.close(descriptor)


def is_private(path: str) -> bool:
    """Whether a file is there, not empty, and root's alone. OSError when that can't be told."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == 0
        and stat.S_IMODE(status.st_mode) == PRIVATE
        and status.st_size > 0
    )


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _copy_all(descriptor: int, source: int, offset: int, size: int) -> None:
    while size:
        copied = os.sendfile(descriptor, source, offset, size)
        if not copied:
            raise OSError(0, "its source is shorter than was said")
        offset, size = offset + copied, size - copied


def _flush_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
