# SPDX-License-Identifier: Apache-2.0
"""Owns the making of a home from /etc/skel: complete beside its place, then renamed, so that no half home is ever seen.

Runs in the account committer, as root, for an account that nobody can log in to yet. It never writes into an existing
home.
"""

import os
import stat
from pathlib import Path

from ipc.errors import CommitError
from workers.committers import atomic_file
from workers.committers.commit import Workplace

SKELETON = "/etc/skel"
LOGIN_DEFS = "/etc/login.defs"
DEEPEST = 16


def make_home(work: Workplace, home: str, uid: int, gid: int) -> bool:
    """Make `home` if nothing is there; False when something is. Mode by HOME_MODE, else UMASK, of login.defs."""
    place = work.at(home)
    if os.path.lexists(place):
        return False
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    staging = atomic_file.temporary_for(place)
    _remove_tree(staging)
    staging.mkdir(mode=0o700)
    skeleton = work.at(SKELETON)
    if skeleton.is_dir():
        _copy_folder(skeleton, staging, uid, gid, DEEPEST)
    os.chown(staging, uid, gid)
    staging.chmod(_home_mode(work))
    atomic_file.sync_folder(staging)
    staging.rename(place)
    work.wrote(home)
    atomic_file.sync_folder(place.parent)
    _label(work, place)
    return True


def _copy_folder(source: Path, target: Path, uid: int, gid: int, depth: int) -> None:
    if depth == 0:
        raise CommitError(f"{SKELETON} is more than {DEEPEST} folders deep")
    for item in sorted(os.scandir(source), key=lambda item: item.name):
        copy = target / item.name
        if item.is_symlink():
            copy.symlink_to(Path(item.path).readlink())
        elif item.is_dir():
            copy.mkdir(mode=0o700)
            _copy_folder(Path(item.path), copy, uid, gid, depth - 1)
            copy.chmod(stat.S_IMODE(item.stat().st_mode))
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


def _label(work: Workplace, place: Path) -> None:
    """On a system with SELinux, the label that its policy names for a home; without one nobody could log in."""
    if work.at("/sys/fs/selinux/enforce").exists() and work.tools.find("restorecon") is not None:
        work.tools.run_well("restorecon", "-RF", "--", str(place))
