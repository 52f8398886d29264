# SPDX-License-Identifier: Apache-2.0
"""Owns how committers write a file: whole, beside the old one, synced, then renamed over it.

Runs in committers. Whoever is killed at any point leaves the old file or the new one, and at most a temporary file
whose fixed name the next run reuses. That name has dots on both sides, so that sudo and sshd's `*.conf` pass over it.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path

import msgspec

LARGEST = 4 * 1024 * 1024


class Found(msgspec.Struct, frozen=True):
    """A file as it was: its bytes and its status."""

    content: bytes
    status: os.stat_result


def temporary_for(path: Path) -> Path:
    """The name under which the next content of `path` is prepared."""
    return path.with_name(f".{path.name}.agent-supervisor")


def look(path: Path) -> Found | None:
    """The regular file at `path`, never through a link; None when nothing is there. OSError for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a link, and links are not followed there", str(path)) from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > LARGEST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return Found(file.read(LARGEST), status)


def prepare(path: Path, content: bytes, mode: int, like: Path | None = None) -> Path:
    """Write `content` to the temporary file of `path` and sync it. With `like`, mode, owner and extended attributes
    (SELinux label, ACL) are those of that file and `mode` is not used. The caller renames or removes it."""
    temporary = temporary_for(path)
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if like is None:
                os.fchmod(descriptor, mode)
            else:
                _take_after(descriptor, like)
            os.fsync(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # A write names no file, and whoever reads of it knows `path`, not what we prepare it under.
        error.filename = str(path)
        raise
    return temporary


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename `temporary` to `path` and make that last."""
    try:
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write(path: Path, content: bytes, mode: int) -> bool:
    """Make `path` a root-owned file of exactly `content` and `mode`; False when it already was one."""
    found = look(path)
    if found is not None and found.content == content and stat.S_IMODE(found.status.st_mode) == mode:
        return False
    put_in_place(prepare(path, content, mode), path)
    return True


def rewrite(path: Path, content: bytes) -> None:
    """Give the existing `path` new content; mode, owner and extended attributes stay."""
    put_in_place(prepare(path, content, 0, like=path), path)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_after(descriptor: int, like: Path) -> None:
    status, own = os.lstat(like), os.fstat(descriptor)
    if (status.st_uid, status.st_gid) != (own.st_uid, own.st_gid):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(like, follow_symlinks=False):
        os.setxattr(descriptor, name, os.getxattr(like, name, follow_symlinks=False))
