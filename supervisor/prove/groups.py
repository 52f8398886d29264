# SPDX-License-Identifier: Apache-2.0
"""Owns the cgroups in which probes run: groups of prove's own, on version 1, 2 or both, and their end.

Runs in `prove`, as root. It never touches a group that it did not make.
"""

import contextlib
import os

from ipc.errors import StateError
from supervisor.jail.control_files import read, write
from supervisor.jail.hierarchies import Hierarchy, parse

PREFIX = "agent-supervisor-prove"
DECOY = "decoy"
_LIMITING = frozenset({"memory", "pids", "cpu", "cpuacct"})


def make(name: str) -> tuple[str, ...]:
    """Folders of a new group called `name` in every hierarchy that is of use; all of them, or none is left.

    StateError where none is to be seen: nothing that is tried could be limited."""
    made: list[str] = []
    try:
        for hierarchy in parse(read("/proc/self/cgroup"), read("/proc/self/mountinfo")):
            if hierarchy.version == 2 or hierarchy.controllers & _LIMITING:
                made.append(_made(_parent(hierarchy), name))
    except OSError:
        remove(tuple(made))
        raise
    if not made:
        raise StateError("prove", "its own cgroup is not to be seen here, as in another cgroup namespace than its own")
    return tuple(made)


def _made(parent: str, name: str) -> str:
    _sweep(parent)
    folder = f"{parent}/{name}"
    # That of a dead one which had our pid, in another pid namespace. A group with a process in it can't be removed.
    remove((folder,))
    os.mkdir(folder, 0o755)
    return folder


def name(number: int) -> str:
    """Of the group of this process's lane `number`."""
    return f"{PREFIX}-{os.getpid()}-{number}"


def _sweep(parent: str) -> None:
    """Remove what a `prove` that was killed has left: its processes died with it."""
    for entry in os.listdir(parent):
        pid = entry.removeprefix(f"{PREFIX}-").partition("-")[0]
        if entry.startswith(f"{PREFIX}-") and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            remove((f"{parent}/{entry}",))


def enter(folders: tuple[str, ...]) -> None:
    """Put the calling process into the groups."""
    for folder in folders:
        write(f"{folder}/cgroup.procs", "0")


def decoys(folders: tuple[str, ...]) -> tuple[str, ...]:
    """A group beside the workers', in each of the groups, for those who want to leave their own."""
    made = []
    for folder in folders:
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{folder}/{DECOY}", 0o755)
        made.append(f"{folder}/{DECOY}")
    return tuple(made)


def remove(folders: tuple[str, ...]) -> bool:
    """Remove them with all below; False while a dying process is still in one."""
    for folder in folders:
        for place, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(place)
    return not any(map(os.path.exists, folders))


def _parent(hierarchy: Hierarchy) -> str:
    """Version 1: our own group. Version 2 takes no groups with controllers below one that has processes: there it is
    the nearest one above that hands down controllers."""
    own = hierarchy.folder
    if hierarchy.version == 1:
        return own
    place = own
    while place.startswith("/sys/fs/cgroup/"):
        place = os.path.dirname(place)
        if "memory" in read(f"{place}/cgroup.subtree_control").split():
            return place
    return own
