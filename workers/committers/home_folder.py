# SPDX-License-Identifier: Apache-2.0
"""Owns the making of a home from /etc/skel: complete beside its place, then renamed, so that no half home is ever seen.

Runs in the account committer, as root, for an account that nobody can log in to yet. It never writes into a home that
is anybody's.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ipc.errors import CommitError
from workers.committers import atomic_file
from workers.committers.commit import Workplace

SKELETON = "/etc/skel"
LOGIN_DEFS = "/etc/login.defs"
DEEPEST = 16
# Nothing in a home gives others its owner's rights, or its group's; no committer may make such a thing.
PLAIN = 0o1777
# As policy/profiles/account.toml has them; elsewhere the kernel lets this process write nothing.
PLACES = ("/home", "/srv", "/opt", "/export", "/data", "/var/home")


def make_home(work: Workplace, home: str, uid: int, gid: int) -> bool:
    """Make `home` if nothing is there; False when something is. Mode by HOME_MODE, else UMASK, of login.defs.

    A folder of root's with nothing in it but what a home gets, such as a new file system mounted there, counts as
    nothing: it is filled and given to the account."""
    place = work.at(home)
    if os.path.lexists(place):
        if not _is_bare(work, place):
            return False
        _fill(work, place, uid, gid)
        work.wrote(home)
        return True
    staging = _begin(work, home)
    _fill(work, staging, uid, gid)
    staging.rename(place)
    work.wrote(home)
    atomic_file.sync_folder(place.parent)
    return True


def inhabitants(skeleton: Path, below: str = "", depth: int = DEEPEST) -> Iterator[str]:
    """The path of everything in a home fresh from `skeleton`, relative to that home, folders before their content."""
    if depth == 0 or not skeleton.is_dir():
        return
    for item in sorted(os.scandir(skeleton), key=lambda item: item.name):
        yield f"{below}{item.name}"
        if item.is_dir(follow_symlinks=False):
            yield from inhabitants(Path(item.path), f"{below}{item.name}/", depth - 1)


def expect_room(work: Workplace, home: str) -> None:
    """CommitError, before any account is made for it, when `home` can't be."""
    if os.path.lexists(work.at(home)):
        return
    try:
        _begin(work, home).rmdir()
    except OSError as error:
        # Elsewhere Landlock refuses, or the sealed tree, which is read-only there.
        if error.errno not in {errno.EACCES, errno.EROFS} or home.startswith(tuple(f"{place}/" for place in PLACES)):
            raise
        raise CommitError(f"{home} can't be made: OS.HomeDir may be {', '.join(PLACES)} or below one of them") from None


def _begin(work: Workplace, home: str) -> Path:
    """An empty folder beside the place of `home`."""
    _make_parents(work, home)
    parent = work.at(home.rpartition("/")[0] or "/")
    facts = parent.stat()
    if facts.st_uid != 0 or facts.st_mode & 0o022:
        raise CommitError(f"{home} can't be made: others than root may write to {home.rpartition('/')[0] or '/'}")
    staging = atomic_file.temporary_for(work.at(home))
    _remove_tree(staging)
    staging.mkdir(mode=0o700)
    return staging


def _make_parents(work: Workplace, home: str) -> None:
    parent, missing = home.rpartition("/")[0], []
    while parent and not work.at(parent).is_dir():
        missing.append(parent)
        parent = parent.rpartition("/")[0]
    for path in reversed(missing):
        work.at(path).mkdir(mode=0o755)
        work.wrote(path)


def _is_bare(work: Workplace, place: Path) -> bool:
    status = place.lstat()
    # Where others may write, what is found now can be another thing a moment later.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
        return False
    allowed = {path.partition("/")[0] for path in inhabitants(work.at(SKELETON))}
    return {item.name for item in os.scandir(place)} - {"lost+found"} <= allowed


def _fill(work: Workplace, folder: Path, uid: int, gid: int) -> None:
    """The skeleton's copy; last of all the folder itself becomes the account's, or a killed run is not seen as one."""
    skeleton = work.at(SKELETON)
    if skeleton.is_dir():
        _copy_folder(skeleton, folder, uid, gid, DEEPEST)
    folder.chmod(_home_mode(work))
    os.chown(folder, uid, gid)
    atomic_file.sync_folder(folder)


def _copy_folder(source: Path, target: Path, uid: int, gid: int, depth: int) -> None:
    if depth == 0:
        raise CommitError(f"{SKELETON} is more than {DEEPEST} folders deep")
    for item in sorted(os.scandir(source), key=lambda item: item.name):
        copy = target / item.name
        if item.is_symlink():
            copy.unlink(missing_ok=True)
            copy.symlink_to(Path(item.path).readlink())
        elif item.is_dir():
            copy.mkdir(mode=0o700, exist_ok=True)
            _copy_folder(Path(item.path), copy, uid, gid, depth - 1)
            copy.chmod(item.stat().st_mode & PLAIN)
        elif item.is_file():
            found = atomic_file.look(Path(item.path))
            if found is not None:
                atomic_file.put_in_place(
                    atomic_file.prepare(copy, found.content, stat.S_IMODE(found.status.st_mode) & 0o777), copy
                )
        else:
            continue  # a socket, pipe or device in a skeleton is nobody's home
        os.chown(copy, uid, gid, follow_symlinks=False)


def _remove_tree(folder: Path) -> None:
    """What a killed run left: made by root in a folder that only root writes to."""
    if folder.is_symlink():
        folder.unlink()
    if not os.path.lexists(folder):
        return
    for item in os.scandir(folder):
        if item.is_dir(follow_symlinks=False):
            _remove_tree(Path(item.path))
        else:
            Path(item.path).unlink()
    folder.rmdir()


def _home_mode(work: Workplace) -> int:
    found = atomic_file.look(work.at(LOGIN_DEFS))
    lines = found.content.decode("utf-8", "replace").splitlines() if found else []
    values = {words[0]: words[1] for words in map(str.split, lines) if len(words) > 1}
    try:
        if "HOME_MODE" in values:
            return int(values["HOME_MODE"], 8) & 0o777
        return 0o777 & ~int(values.get("UMASK", "077"), 8)
    except ValueError:
        return 0o700
