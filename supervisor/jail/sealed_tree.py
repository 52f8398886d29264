# SPDX-License-Identifier: Apache-2.0
"""Owns the host's mount tree as a committer and the supervisor see it: read-only but for what the profile names, and an
empty /run.

Runs in the process being confined, in its new mount namespace. Landlock judges neither changes of mode and owner nor
connecting to a socket by its path; a read-only mount refuses the first, and where no socket is, nobody connects.
"""

import errno
import os
import re
from collections.abc import Iterable, Sequence

from policy.profile import PathGrant
from supervisor.jail import syscalls

# Where services listen; /var/run is a link to it.
RUN = "/run"
WRITING = frozenset({"rw", "tools", "remove"})
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _NOATIME, _NODIRATIME = 1, 2, 4, 8, 32, 1024, 2048
_BIND, _REC, _RELATIME = 4096, 16384, 1 << 21
_KEPT = {
    "nosuid": _NOSUID,
    "nodev": _NODEV,
    "noexec": _NOEXEC,
    "noatime": _NOATIME,
    "nodiratime": _NODIRATIME,
    "relatime": _RELATIME,
}


def seal(grants: Sequence[PathGrant], hidden: Sequence[str] = ()) -> None:
    """Make every mount read-only that is not within a folder that `grants` lets be written, and hide /run and `hidden`
    but for the grants in them. A mount that is read-only already stays so, granted or not.

    Who may write all sees all as it is."""
    writable = _folders(grant.path for grant in grants if grant.access in WRITING)
    if "/" in writable:
        return
    try:
        _seal_at_once(writable)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        seal_one_by_one(writable)
    # Last: what it covers must be read-only as well, though no path leads there any more.
    for folder in (RUN, *hidden):
        _hide(folder, [grant for grant in grants if is_within(grant.path, folder)])


def _seal_at_once(writable: Sequence[str]) -> None:
    """From Linux 5.12 on; mounts that no path leads to are sealed, too."""
    kept = [(folder, syscalls.clone_tree(folder)) for folder in writable]
    syscalls.make_read_only("/")
    for folder, tree in kept:
        syscalls.attach_tree(tree, folder)
        os.close(tree)


def seal_one_by_one(writable: Sequence[str]) -> None:
    """The same where the kernel knows no other way: mount by mount."""
    for folder in writable:
        syscalls.mount(folder, folder, None, _BIND | _REC)
    for point, options in _mounts():
        if not any(is_within(point, folder) for folder in writable):
            _make_read_only(point, options)


def mount_points() -> list[str]:
    """Where something is mounted, in the order in which it was; a place twice where one mount covers another."""
    return [point for point, _ in _mounts()]


def _mounts() -> list[tuple[str, list[str]]]:
    """Place and options of each mount."""
    with open("/proc/self/mountinfo", "rb") as table:
        return [
            (os.fsdecode(_unescaped(fields[4])), fields[5].decode().split(",")) for fields in map(bytes.split, table)
        ]


def _folders(paths: Iterable[str]) -> list[str]:
    """Those of `paths` that are folders, without links in them, and none that lies in another.

    In /run services own folders: one with a link in it is nobody's grant, wherever that leads."""
    there = [path for path in paths if os.path.isdir(path) and not (is_within(path, RUN) and _is_linked(path))]
    real = sorted({os.path.realpath(path) for path in there})
    return [path for path in real if not any(is_within(path, other) for other in real if other != path)]


def _hide(folder: str, shown: Sequence[PathGrant]) -> None:
    """An empty file system in the place of `folder`, with those paths of it that are granted; a folder that may be
    written and is not there yet is shown as an empty one."""
    if any(grant.path == folder for grant in shown) or not os.path.isdir(folder):
        return
    # Sorted: what lies in another one comes to lie on it.
    there = sorted({grant.path for grant in shown if os.path.lexists(grant.path) and not _is_linked(grant.path)})
    kept = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in there]
    syscalls.mount("tmpfs", folder, "tmpfs", _NOSUID | _NODEV | _NOEXEC, "size=64k,nr_inodes=64,mode=0755")
    for path, descriptor in kept:
        source = f"/proc/self/fd/{descriptor}"
        if os.path.isdir(source):
            os.makedirs(path, 0o755, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o400))
        # In /run a folder is shown, and nothing that somebody has mounted in it.
        syscalls.mount(source, path, None, _BIND | (0 if folder == RUN else _REC))
        os.close(descriptor)
    for path in {grant.path for grant in shown if grant.access in WRITING}.difference(there):
        os.makedirs(path, 0o755)
    _make_read_only(folder, ["nosuid", "nodev", "noexec"])


def _make_read_only(point: str, options: Sequence[str]) -> None:
    kept = sum(_KEPT.get(option, 0) for option in options)
    try:
        syscalls.mount(None, point, None, _REMOUNT | _BIND | _RDONLY | kept)
    except OSError as error:
        # Another mount covers it: no path leads there.
        if error.errno not in {errno.EINVAL, errno.ENOENT, errno.ENOTDIR}:
            raise


def _is_linked(path: str) -> bool:
    return os.path.realpath(path) != path


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder`, or lies in it."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _unescaped(field: bytes) -> bytes:
    """The kernel writes blanks, line breaks and backslashes in octal."""
    if b"\\" not in field:
        return field
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
