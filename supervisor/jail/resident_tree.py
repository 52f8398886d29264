# SPDX-License-Identifier: Apache-2.0
"""Owns the supervisor's own mount tree: what it needs of the host's mounts and no other, sealed as a committer's is.

Runs in the supervisor, once, before it reads a byte from outside; unloaded afterwards. Nothing goes out of the tree or
comes into it: a mount that it keeps it holds, so it keeps few, and of others' disks and containers none.
"""

import errno
import os
from collections.abc import Iterable, Sequence

from ipc.errors import ConfinementError
from policy.placeholders import expand
from policy.profile import PathGrant, Profile
from supervisor.jail import capabilities, mounts, namespaces, sealed_tree, syscalls
from supervisor.jail.shedding import Places

# With all that is mounted in them: the kernel's own, and the system's.
WHOLE = ("/dev", "/etc", "/proc", "/sys", "/usr")
# What the capability is for is done once.
MOUNTING = "sys_admin"
# Where the new root is put together: a folder that is hidden afterwards anyway.
_SCAFFOLD = sealed_tree.RUN
_BIND, _REC, _DETACH = 4096, 16384, 2
_NONE_HERE = frozenset({errno.EPERM, errno.EINVAL, errno.ENOSPC, errno.ENOSYS})


def seal_resident(profile: Profile, places: Places, needed: Iterable[str], homes: Sequence[str] = ()) -> bool:
    """Leave the host's mounts for a sealed tree, then give up the capability for that. Of `profile.hidden` only what is
    named is there: by `profile.paths`, filled in by `places`, by `needed`, and by `homes` with all mounts in them.

    False where the machine gives no mount namespace: all is as it was then. ConfinementError when the rest fails."""
    grants = expand(profile.paths, places, "supervisor.toml")
    step = "mounts"
    try:
        is_ours = _leave()
        if is_ours:
            mounts.make_private()
            homes = [path for path in map(os.path.realpath, homes) if os.path.isdir(path)]
            whole = [path for path in WHOLE if os.path.isdir(path) and not os.path.islink(path)]
            real = {*homes, *(os.path.realpath(path) for path in needed if not _is_in(whole, path))}
            grants += tuple(PathGrant(path, "ro", "Named by its settings.") for path in real)
            _keep_only([*whole, *homes], [grant.path for grant in grants if not _is_in(whole, grant.path)])
            sealed_tree.seal(grants, profile.hidden)
        step = "capabilities"
        capabilities.hold(profile.start_capability_names - {MOUNTING})
    except OSError as error:
        raise ConfinementError(step, str(error)) from None
    return is_ours


def _leave() -> bool:
    """Whether the machine gives a mount namespace."""
    try:
        namespaces.leave(("mount",))
    except OSError as error:
        if error.errno in _NONE_HERE:
            return False
        raise
    return True


def _keep_only(whole: Sequence[str], needed: Sequence[str]) -> None:
    """A root with all of `whole`, and the mounts on the way to one of `needed`; others stay behind with the old one."""
    ways = {*needed, *map(os.path.realpath, needed)}
    others = [
        point
        for point in sealed_tree.mount_points()
        if point != "/" and not _is_in(whole, point) and any(sealed_tree.is_within(way, point) for way in ways)
    ]
    # The scaffold covers what lies below it. Sorted: what lies in another one comes to lie on it.
    kept = [(point, os.open(point, os.O_PATH | os.O_CLOEXEC)) for point in sorted({*whole, *others})]
    syscalls.mount("/", _SCAFFOLD, None, _BIND)
    for point, descriptor in kept:
        together = _BIND | (_REC if point in whole else 0)
        syscalls.mount(f"/proc/self/fd/{descriptor}", _SCAFFOLD + point, None, together)
        os.close(descriptor)
    os.chdir(_SCAFFOLD)
    # The old root comes to lie on top of the new one and is lifted off, as with a worker's view.
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".", _DETACH)
    os.chdir("/")


def _is_in(folders: Iterable[str], path: str) -> bool:
    return any(sealed_tree.is_within(path, folder) for folder in folders)
