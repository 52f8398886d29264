# SPDX-License-Identifier: Apache-2.0
"""Owns the removal of a home: first out of the account's reach, under a name of ours, then all that is in it.

Runs in the jit-account committer, as root. It goes down by descriptors alone, follows no link, and enters no other file
system; what it can't remove stays behind closed doors.
"""

import errno
import os
import stat
from pathlib import Path

from workers.committers import atomic_file
from workers.committers.commit import Workplace

LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def set_aside(work: Workplace, home: str, uid: int) -> str:
    """Rename `home` and close it to all but root; what to say if that is not done, empty if there is none or it is."""
    place = work.at(home)
    try:
        status = place.lstat()
    except FileNotFoundError:
        return ""
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid:
        return f"{home} stays: it is no folder of uid {uid}"
    above = place.parent.stat()
    if above.st_uid != 0 or above.st_mode & 0o022:
        return f"{home} stays: others than root may write to the folder that it is in"
    aside = _aside(place)
    try:
        if os.path.lexists(aside):
            # Of a removal that was cut short, and then there was an account of that name again.
            _remove(aside)
        place.rename(aside)
    except OSError as error:
        # Whoever gets that uid next is not to get this home.
        _close(place)
        work.wrote(home)
        return f"{home} stays, and is root's: {error.strerror}"
    work.wrote(home.rpartition("/")[0])
    _close(aside)
    return ""


def _close(folder: Path) -> None:
    descriptor = os.open(folder, LIST)
    try:
        os.fchown(descriptor, 0, 0)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def remove_set_aside(work: Workplace, home: str) -> str:
    """Remove what `set_aside` has left, now or in a run that was cut short; what to say if some of it stays."""
    aside = _aside(work.at(home))
    if not os.path.lexists(aside):
        return ""
    try:
        _remove(aside)
    except OSError as error:
        return f"not all of {home} can be removed, the rest is root's in {aside}: {error.strerror}"
    return ""


def _aside(place: Path) -> Path:
    """Not where a home is prepared: that name belongs to whoever makes one."""
    return place.with_name(f"{atomic_file.temporary_for(place).name}-removed")


def _remove(folder: Path) -> None:
    _empty(os.open(folder, LIST))
    folder.rmdir()


def _empty(folder: int) -> None:
    """Empty the folder and close it. However deep it goes, one descriptor is open, and its way back is `above`: names
    with the inode that they are in."""
    device = os.fstat(folder).st_dev
    above: list[tuple[str, int]] = []
    try:
        while (name := _next_folder(folder)) is not None or above:
            number = os.fstat(folder).st_ino
            if name is not None:
                folder = _instead(folder, name)
                above.append((name, number))
                _expect(os.fstat(folder).st_dev == device, "another file system is mounted in it")
                continue
            folder = _instead(folder, "..")
            name, number = above.pop()
            _expect(os.fstat(folder).st_ino == number, "somebody has moved a folder of it meanwhile")
            os.rmdir(name, dir_fd=folder)
    finally:
        os.close(folder)


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise OSError(errno.EBUSY, otherwise)


def _instead(folder: int, name: str) -> int:
    """The folder `name` in `folder`, which is closed."""
    opened = os.open(name, LIST, dir_fd=folder)
    os.close(folder)
    return opened


def _next_folder(folder: int) -> str | None:
    """Remove what is there up to the first folder, whose name this is; None when nothing is left."""
    name, seen = _look_through(folder)
    # What is removed while a folder is read may hide something else in it.
    while name is None and seen:
        name, seen = _look_through(folder)
    return name


def _look_through(folder: int) -> tuple[str | None, bool]:
    """The same for one look; and whether there was anything."""
    seen = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                return entry.name, True
            os.unlink(entry.name, dir_fd=folder)
            seen = True
    return None, seen
