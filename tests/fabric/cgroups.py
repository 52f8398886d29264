# SPDX-License-Identifier: Apache-2.0
"""Owns the lab's control groups on the host: one child below the caller's own cgroup in every hierarchy, and its end.

Runs outside the lab. It never touches a cgroup that doesn't carry a lab's name.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from tests.fabric.waiting import until

PREFIX = "fabric-lab"


@dataclass(frozen=True)
class Hierarchy:
    """One cgroup hierarchy of the host. `own` is the folder of the caller's cgroup; `name` the folder's name under
    /sys/fs/cgroup ("" when cgroup2 alone is mounted there); `options` what mount(8) needs for the v1 hierarchy."""

    name: str
    kind: str
    options: str
    own: Path


def hierarchies(process: Path = Path("/proc/self")) -> tuple[Hierarchy, ...]:
    """Every mounted hierarchy, and where `process` is in it."""
    mounts = []
    for line in (process / "mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        kind, _, options = right.split()[:3]
        root, point = left.split()[3:5]
        if kind in {"cgroup", "cgroup2"} and point.startswith("/sys/fs/cgroup"):
            mounts.append((kind, set(options.split(",")), root, Path(point)))
    found = []
    for line in (process / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for kind, options_set, root, folder in mounts:
            # An empty list of controllers is version 2's line; version 1's names are among its mount's options.
            if set(controllers.split(",")) <= options_set if controllers else kind == "cgroup2":
                found.append(_hierarchy(kind, controllers, folder, os.path.relpath(path, root)))
    return tuple(found)


def _hierarchy(kind: str, controllers: str, point: Path, below: str) -> Hierarchy:
    options = f"none,{controllers}" if controllers.startswith("name=") else controllers
    name = "" if point == Path("/sys/fs/cgroup") else point.name
    return Hierarchy(name, kind, options, Path(os.path.normpath(point / below)))


def parent_of_lab(hierarchy: Hierarchy) -> Path:
    """Where the lab's cgroup goes: the caller's own; with cgroup2 the nearest ancestor handing down controllers."""
    if hierarchy.kind == "cgroup":
        return hierarchy.own
    for place in (hierarchy.own, *hierarchy.own.parents):
        control = place / "cgroup.subtree_control"
        if control.exists() and "memory" in control.read_text().split():
            return place
    return hierarchy.own


def make(name: str, wanted: tuple[Hierarchy, ...]) -> dict[str, Path]:
    """The lab's cgroup in each of `wanted`, by the hierarchy's name."""
    made = {}
    for hierarchy in wanted:
        folder = parent_of_lab(hierarchy) / name
        folder.mkdir()
        if "cpuset" in hierarchy.options.split(","):
            _inherit_cpuset(folder)
        made[hierarchy.name] = folder
    return made


def remove(folders: list[Path], timeout_s: float = 5.0) -> None:
    """Remove the trees; their processes are dead or dying."""
    until(f"removal of {folders}", lambda: not [f for f in folders if not _removed(f)], timeout_s)


def name_for(pid: int) -> str:
    """The cgroup name of the lab kept by process `pid`: it tells whether that process still lives."""
    return f"{PREFIX}-{pid}-{started(pid)}"


def is_live_lab(name: str) -> bool:
    """Does the keeper that `name` tells of still run?"""
    parts = name.removeprefix(PREFIX + "-").split("-")
    if not name.startswith(PREFIX + "-") or len(parts) != 2 or not parts[0].isdigit():
        return False
    return started(int(parts[0])) == parts[1]


def sweep(wanted: tuple[Hierarchy, ...]) -> None:
    """Remove what a lab left whose keeper was killed; cgroups that are in use stay, the kernel sees to that."""
    for hierarchy in wanted:
        for folder in parent_of_lab(hierarchy).glob(f"{PREFIX}-*"):
            if not is_live_lab(folder.name):
                _removed(folder)


def _inherit_cpuset(folder: Path) -> None:
    for knob in ("cpuset.cpus", "cpuset.mems"):
        (folder / knob).write_text((folder.parent / knob).read_text())
    (folder / "cgroup.clone_children").write_text("1")


def _removed(folder: Path) -> bool:
    for place, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(place).rmdir()
    return not folder.exists()


def started(pid: int) -> str:
    """Start time of `pid` in clock ticks since boot; "" when there is no such process or only its zombie."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if facts[0] in {"Z", "X"} else facts[19]
