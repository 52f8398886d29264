# SPDX-License-Identifier: Apache-2.0
"""Owns a worker's view of the file system: an empty root of its own with exactly the paths that its profile names.

Runs in the child being confined, in its new mount namespace. It never changes a mount that the host can see.
"""

import os
import stat
from collections.abc import Sequence

from supervisor.jail import syscalls

# What becomes a program of others', each time anew, has no use for policies, which take long to load.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from policy.profile import PathGrant

CHANNEL = "/channel"
# Where the new root is built, out of sight for everybody else: a folder that every system has and no grant lies in.
_SCAFFOLD = "/proc"
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_NOATIME, _NODIRATIME, _RELATIME = 1024, 2048, 1 << 21
_DETACH = 2
_BARE = _NOSUID | _NODEV | _NOEXEC
_FLAGS = {"ro": _RDONLY | _NOEXEC, "rx": _RDONLY, "rw": _NOEXEC, "tools": 0, "channel": _RDONLY | _NOEXEC}
# statvfs reports the first four under mount's own numbers, this one under another.
_STATVFS_RELATIME = 4096


def make_private(point: str = "/", *, below: bool = True) -> None:
    """No mount event goes out of the mount at `point`, nor of those `below` it, or comes into them."""
    syscalls.mount(None, point, None, _PRIVATE | (_REC if below else 0))


def cover(paths: Sequence[str]) -> None:
    """Lay an empty folder, closed to everybody, over each of `paths` that is there, in the caller's mount namespace."""
    for path in paths:
        if os.path.isdir(path):
            syscalls.mount("tmpfs", path, "tmpfs", _BARE | _RDONLY, "mode=0,size=4k,nr_inodes=1")


def make_executable(point: str) -> None:
    """What lies in the mount at `point` can be run there, whatever it was mounted with; all else stays as it is."""
    syscalls.mount(None, point, None, _REMOUNT | _BIND | (_kept_flags(point) & ~_NOEXEC))


def make_bare(point: str) -> None:
    """The mount at `point` can only be read."""
    syscalls.mount(None, point, None, _REMOUNT | _BIND | _RDONLY | _BARE | _kept_flags(point))


def pivot_into_view(grants: Sequence["PathGrant"], channel_folder: str) -> tuple[str, ...]:
    """Make a root of `grants` and nothing else, and move into it for good; the old root is detached.

    The grant with access "channel" shows the host's `channel_folder` at /channel. A grant of /proc is a proc file
    system of its own, of the caller's pid namespace. Flags that a source's mount already has are kept. Returns the
    granted paths that the host does not have."""
    syscalls.mount("tmpfs", _SCAFFOLD, "tmpfs", _BARE, "size=64k,nr_inodes=256,mode=0755")
    absent = []
    for grant in sorted(grants, key=lambda grant: grant.path):
        channel = grant.access == "channel"
        source, point = (channel_folder, _SCAFFOLD + CHANNEL) if channel else (grant.path, _SCAFFOLD + grant.path)
        if not _show(source, point, _FLAGS[grant.access]):
            absent.append(grant.path)
    os.chdir(_SCAFFOLD)
    # The old root comes to lie on top of the new one and is lifted off: no folder is needed for it.
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".", _DETACH)
    os.chdir("/")
    syscalls.mount(None, "/", None, _REMOUNT | _BIND | _RDONLY | _BARE)
    return tuple(absent)


def _show(source: str, point: str, flags: int) -> bool:
    """Bind `source` at `point` with at least `flags`; False when there is no such source."""
    try:
        mode = os.stat(source).st_mode
    except FileNotFoundError:
        return False
    if source == "/proc":
        _make_folder(point)
        syscalls.mount("proc", point, "proc", _BARE | _RDONLY)
        return True
    if stat.S_ISDIR(mode):
        _make_folder(point)
    else:
        _make_folder(os.path.dirname(point))
        os.close(os.open(point, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o400))
    syscalls.mount(source, point, None, _BIND)
    syscalls.mount(None, point, None, _REMOUNT | _BIND | _NOSUID | _NODEV | flags | _kept_flags(point))
    return True


def _kept_flags(point: str) -> int:
    """The restrictions that the mount already has: a remount without them would lift them."""
    flags = os.statvfs(point).f_flag
    kept = flags & (_RDONLY | _NOSUID | _NODEV | _NOEXEC | _NOATIME | _NODIRATIME)
    return kept | (_RELATIME if flags & _STATVFS_RELATIME else 0)


def _make_folder(path: str) -> None:
    if not os.path.isdir(path):
        _make_folder(os.path.dirname(path))
        os.mkdir(path, 0o755)
