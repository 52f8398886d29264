# SPDX-License-Identifier: Apache-2.0
"""Owns where a process's cgroups are, for version 1, 2 and both at once: text in, folders out; it reads nothing."""

import os.path

import msgspec


class Hierarchy(msgspec.Struct, frozen=True):
    """One cgroup hierarchy. `folder` is the process's own group in it, absolute.

    `controllers` are version 1's, from the mount; of version 2 (at most one hierarchy) the folder itself tells them."""

    version: int
    controllers: frozenset[str]
    folder: str


class _Mount(msgspec.Struct, frozen=True):
    version: int
    options: frozenset[str]
    root: str
    point: str


def parse(process_cgroup: str, mountinfo: str) -> tuple[Hierarchy, ...]:
    """Every hierarchy that is mounted and whose mount shows the process's group.

    `process_cgroup` is the text of /proc/PID/cgroup, `mountinfo` that of /proc/PID/mountinfo. Named hierarchies
    without a controller (name=systemd) are left out: nothing can be limited there."""
    mounts = [mount for line in mountinfo.splitlines() if (mount := _mount(line)) is not None]
    found = []
    for line in process_cgroup.splitlines():
        _, names, path = line.split(":", 2)
        controllers = frozenset(names.split(",")) if names else frozenset()
        if names.startswith("name="):
            continue
        folders = (_folder(mount, path) for mount in mounts if _belongs(mount, controllers))
        folder = next((folder for folder in folders if folder is not None), None)
        if folder is not None:
            found.append(Hierarchy(1 if controllers else 2, controllers, folder))
    return tuple(found)


def _mount(line: str) -> _Mount | None:
    """A cgroup mount, None for every other line."""
    left, _, right = line.partition(" - ")
    kind, _, options = right.split(" ", 2)
    if kind not in {"cgroup", "cgroup2"}:
        return None
    root, point = (_unescape(field) for field in left.split(" ")[3:5])
    return _Mount(1 if kind == "cgroup" else 2, frozenset(options.split(",")), root, point)


def _belongs(mount: _Mount, controllers: frozenset[str]) -> bool:
    return controllers <= mount.options if controllers else mount.version == 2


def _folder(mount: _Mount, path: str) -> str | None:
    """Where group `path` shows under `mount`; None when the mount begins below or beside it (another namespace's)."""
    root = mount.root.rstrip("/")
    if path != root and not path.startswith(f"{root}/"):
        return None
    below = path.removeprefix(root)
    # So the kernel writes a group that is outside of the reader's cgroup namespace: it would lead out of the mount.
    return None if ".." in below.split("/") else os.path.normpath(f"{mount.point}/{below}")


def _unescape(field: str) -> str:
    """The kernel writes blanks and backslashes in octal."""
    return field.encode("latin-1", "replace").decode("unicode_escape") if "\\" in field else field
