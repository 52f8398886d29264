# SPDX-License-Identifier: Apache-2.0
"""Owns the host's mount tree as a committer sees it: read-only but for what its profile names, and an empty /run.

Runs in the child being confined, in its new mount namespace. Landlock judges neither changes of mode and owner nor
connecting to a socket by its path; a read-only mount refuses the first, and where no socket is, nobody connects.
"""

import errno
import os
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


def seal(grants: Sequence[PathGrant]) -> None:
    """Make every mount read-only that is not within a folder that `grants` lets be written, and hide /run but for the
    grants in it. A mount that is read-only already stays so, granted or not. Who may write all sees all as it is."""
    writable = _folders(grant.path for grant in grants if grant.access in WRITING)
    if "/" in writable:
        return
    for folder in writable:
        syscalls.mount(folder, folder, None, _BIND | _REC)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        mounts = [(_unescaped(fields[4]), fields[5].split(",")) for fields in map(str.split, table)]
    for point, options in mounts:
        if not any(_within(point, folder) for folder in writable):
            _make_read_only(point, options)
    # Last: what it covers must be read-only as well, though no path leads there any more.
    _hide_run([grant for grant in grants if _within(grant.path, RUN)])


def _folders(paths: Iterable[str]) -> list[str]:
    """Those of `paths` that are folders, without links in them, and none that lies in another."""
    real = sorted({os.path.realpath(path) for path in paths if os.path.isdir(path)})
    return [path for path in real if not any(_within(path, other) for other in real if other != path)]


def _hide_run(shown: Sequence[PathGrant]) -> None:
    """An empty file system in the place of /run, with those paths of it that are granted; a folder that may be written
    and is not there yet is shown as an empty one."""
    if any(grant.path == RUN for grant in shown) or not os.path.isdir(RUN):
        return
    there = [grant.path for grant in shown if os.path.lexists(grant.path)]
    kept = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in there]
    syscalls.mount("tmpfs", RUN, "tmpfs", _NOSUID | _NODEV | _NOEXEC, "size=64k,nr_inodes=64,mode=0755")
    for path, descriptor in kept:
        source = f"/proc/self/fd/{descriptor}"
        if os.path.isdir(source):
            os.makedirs(path, 0o755)
        else:
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o400))
        syscalls.mount(source, path, None, _BIND)
        os.close(descriptor)
    for path in {grant.path for grant in shown if grant.access in WRITING}.difference(there):
        os.makedirs(path, 0o755)
    _make_read_only(RUN, ["nosuid", "nodev", "noexec"])


def _make_read_only(point: str, options: Sequence[str]) -> None:
    kept = sum(_KEPT.get(option, 0) for option in options)
    try:
        syscalls.mount(None, point, None, _REMOUNT | _BIND | _RDONLY | kept)
    except OSError as error:
        # Another mount covers it: no path leads there.
        if error.errno not in {errno.EINVAL, errno.ENOENT, errno.ENOTDIR}:
            raise


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _unescaped(field: str) -> str:
    """The kernel writes blanks, line breaks and backslashes in octal."""
    return field.encode("latin-1", "replace").decode("unicode_escape") if "\\" in field else field
