# SPDX-License-Identifier: Apache-2.0
"""Owns the cgroup hierarchies as this command sees them: where they are mounted, what a group's control files say."""

import os

import msgspec

from supervisor.audit import proc

WORKERS, SUPERVISOR, MAIN = "workers", "supervisor", "main"


class Hierarchy(msgspec.Struct, frozen=True):
    """`controllers` as /proc/PID/cgroup has them ("" for version 2); its mount shows the group `root` at `point`."""

    controllers: str
    root: str
    point: str

    @property
    def version(self) -> int:
        return 1 if self.controllers else 2

    def folder(self, group: str) -> str | None:
        """Where the group of that path shows; None when the mount does not show it."""
        root = self.root.rstrip("/")
        if group != self.root and not group.startswith(f"{root}/"):
            return None
        return os.path.normpath(f"{self.point}/{group[len(root) :]}")

    def value(self, group: str, file: str) -> str | None:
        """The text of one control file of that group; None without such a file."""
        folder = self.folder(group)
        try:
            return proc.text(f"{folder}/{file}").strip() if folder is not None else None
        except OSError:
            return None

    def has(self, group: str) -> bool:
        """Is there such a group?"""
        folder = self.folder(group)
        return folder is not None and os.path.isdir(folder)

    def limits(self, controller: str, group: str) -> bool:
        """Does this hierarchy have that controller for the groups in `group`?"""
        if self.version == 1:
            return controller in self.controllers.split(",")
        return controller in (self.value(group, "cgroup.subtree_control") or "").split()


def mounted() -> tuple[Hierarchy, ...]:
    """Those of this process that are mounted where it sees them."""
    lines = proc.text(f"{proc.PROC}/self/mountinfo").splitlines()
    mounts = [mount for line in lines if (mount := _mount(line)) is not None]
    groups = proc.groups(f"{proc.PROC}/self")
    found = (next((one for one in mounts if _is_of(one, controllers)), None) for controllers in groups)
    pairs = zip(groups, found, strict=True)
    return tuple(Hierarchy(controllers, one.root, one.point) for controllers, one in pairs if one is not None)


class _Mount(msgspec.Struct, frozen=True):
    kind: str
    options: frozenset[str]
    root: str
    point: str


def _mount(line: str) -> _Mount | None:
    left, _, right = line.partition(" - ")
    kind, _, options = right.split(" ", 2)
    if kind not in {"cgroup", "cgroup2"}:
        return None
    root, point = left.split(" ")[3:5]
    return _Mount(kind, frozenset(options.split(",")), root, point)


def _is_of(mount: _Mount, controllers: str) -> bool:
    return frozenset(controllers.split(",")) <= mount.options if controllers else mount.kind == "cgroup2"
