# SPDX-License-Identifier: Apache-2.0
"""Owns the workers' cgroups: `workers/` below the spawner's own group, one group a worker, on version 1, 2 or both.

Prepared, made and removed by the spawner, joined by the child being confined. It never touches a group outside
`workers/` and `main/` below the process's own.
"""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable
from functools import partial

import msgspec

from policy.profile import Limits
from supervisor.jail.control_files import field, number, read, try_write, write
from supervisor.jail.hierarchies import Hierarchy, parse

WORKERS, MAIN = "workers", "main"
# Controller -> the name of its absence in ipc.records.MECHANISMS.
WANTED = {"memory": "memory-limit", "pids": "pids-limit", "cpu": "cpu-limit"}
_PERIOD_US = 100_000
# The kernel's for a group that nobody has said anything about, in the policies' numbers, which are version 2's.
_USUAL_WEIGHT = 100
_KILL_ROUNDS = 64


class Usage(msgspec.Struct, frozen=True):
    """What a group uses, for display: 0 where nothing counts it."""

    memory_bytes: int
    peak_bytes: int
    cpu_us: int


class Place(msgspec.Struct, frozen=True):
    """One hierarchy's folder for the workers, or for one of them; `controllers` are those that limit here."""

    version: int
    folder: str
    controllers: frozenset[str]


class Group:
    """One worker's group in all hierarchies. `missing` names the limits that nothing enforces; `removed` is called when
    it is no more."""

    def __init__(
        self, places: tuple[Place, ...], missing: tuple[str, ...], removed: Callable[[], None] = lambda: None
    ) -> None:
        self.places = places
        self.missing = missing
        self._removed = removed

    @property
    def unified(self) -> str | None:
        """The version 2 folder, for syscalls.fork_into."""
        return next((place.folder for place in self.places if place.version == 2), None)

    def join(self, *, born_in_unified: bool = False) -> None:
        """Put the calling process, which has one thread, into the group; its limits hold from here on.

        Version 1 is joined through `tasks`: the kernel moves a lone thread at once, but waits for a grace period (about
        10 ms) when a whole process moves. Version 2 has no such way; syscalls.fork_into avoids the move."""
        for place in self.places:
            if place.version == 1:
                write(f"{place.folder}/tasks", "0")
            elif not born_in_unified:
                write(f"{place.folder}/cgroup.procs", "0")

    def pids(self) -> tuple[int, ...]:
        """Its processes now, as the caller's pid namespace numbers them."""
        return tuple(sorted({pid for place in self.places for pid in _pids(place.folder)}))

    def kill(self) -> None:
        """End every process in it, also those it starts meanwhile. They are gone once somebody has reaped them."""
        for place in self.places:
            if place.version == 2 and try_write(f"{place.folder}/cgroup.kill", "1"):
                return
        for place in self.places:
            try_write(f"{place.folder}/cgroup.freeze", "1")
        for _ in range(_KILL_ROUNDS):
            pids = self.pids()
            if not [pid for pid in pids if self._kill_member(pid)]:
                break
        for place in self.places:
            try_write(f"{place.folder}/cgroup.freeze", "0")

    def remove(self, patience_s: float = 0.05) -> bool:
        """Remove the group; False if after `patience_s` a dying process is still in it (try again later)."""
        deadline = time.monotonic() + patience_s
        while left := [place for place in self.places if not _removed(place.folder)]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        self._removed()
        return not left

    def usage(self) -> Usage:
        """Memory now and at most, bytes, and processor time, microseconds."""
        memory = peak = cpu = 0
        for place in self.places:
            if place.version == 2:
                cpu = cpu or field(f"{place.folder}/cpu.stat", "usage_usec")
                memory = memory or number(f"{place.folder}/memory.current")
                peak = peak or number(f"{place.folder}/memory.peak")
            else:
                cpu = cpu or number(f"{place.folder}/cpuacct.usage") // 1000
                memory = memory or number(f"{place.folder}/memory.usage_in_bytes")
                peak = peak or number(f"{place.folder}/memory.max_usage_in_bytes")
        return Usage(memory, max(peak, memory), cpu)

    def _kill_member(self, pid: int) -> bool:
        """False when `pid` is no living member any more: a number may have gone to somebody else in between."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            if pid not in self.pids():
                return False
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)
        return True


class Tree:
    """`workers/` in every hierarchy that is of use. `missing` names the limits that no hierarchy here can enforce."""

    def __init__(self, places: tuple[Place, ...]) -> None:
        self.places = places
        there = frozenset[str]().union(*(place.controllers for place in places))
        self.missing = tuple(name for controller, name in WANTED.items() if controller not in there)
        # Of the groups that weigh more than usual, by their names.
        self._heavy: dict[str, int] = {}

    def create(self, name: str, limits: Limits) -> Group:
        """A fresh group called `name` under `limits`; OSError when it can't be made or a limit is refused."""
        group = self._create(name, limits, partial(self._weigh, name, _USUAL_WEIGHT))
        self._weigh(name, limits.cpu_weight)
        return group

    def create_beside(self, name: str, limits: Limits) -> Group:
        """As `create`, but beside `workers/`; whatever an earlier life left in a group of that name is ended."""
        return self._create(f"../{name}", limits)

    def _weigh(self, name: str, weight: int) -> None:
        """All workers together weigh as much as the heaviest of them: it competes with who is beside them, too."""
        before = max(self._heavy.values(), default=_USUAL_WEIGHT)
        self._heavy.pop(name, None)
        if weight > _USUAL_WEIGHT:
            self._heavy[name] = weight
        now = max(self._heavy.values(), default=_USUAL_WEIGHT)
        for place in self.places:
            if now != before and "cpu" in place.controllers:
                try_write(f"{place.folder}/{_WEIGHT_FILES[place.version]}", _weight(place.version, now))

    def _create(self, name: str, limits: Limits, removed: Callable[[], None] = lambda: None) -> Group:
        group = Group(
            tuple(
                Place(place.version, os.path.normpath(f"{place.folder}/{name}"), place.controllers)
                for place in self.places
            ),
            self.missing,
            removed,
        )
        # Never one that was killed before: newer kernels kill whoever is born in such a group from outside it.
        if group.pids():
            group.kill()
        group.remove()
        try:
            for place in group.places:
                _make(place.folder)
                _limit(place, limits)
        except OSError:
            group.remove()
            raise
        return group

    def groups(self) -> tuple[Group, ...]:
        """All groups that exist below `workers/`, those of an earlier life too."""
        names = {name for place in self.places for name in _children(place.folder)}
        return tuple(
            Group(tuple(Place(place.version, f"{place.folder}/{name}", place.controllers) for place in self.places), ())
            for name in sorted(names)
        )

    def sweep(self) -> None:
        """End and remove what an earlier life left behind."""
        for group in self.groups():
            group.kill()
            group.remove()

    def remove(self) -> bool:
        """Remove `workers/` itself, once no group is left."""
        removed = [_removed(place.folder) for place in self.places]
        return all(removed)


def prepare(root: str = "", wanted: frozenset[str] = frozenset(WANTED)) -> Tree:
    """Make `workers/` below the caller's own group in every hierarchy that has one of `wanted`, and in version 2.

    With version 2 the caller itself moves into `main/`, because a group with processes can't hand out controllers.
    `root` is put before every path read or made (tests)."""
    process = f"{root}/proc/self"
    own = parse(read(f"{process}/cgroup"), read(f"{process}/mountinfo"))
    places = []
    limited: frozenset[str] = frozenset()
    for hierarchy in sorted(own, key=lambda hierarchy: hierarchy.version):
        prepare_one = _prepare_v1 if hierarchy.version == 1 else _prepare_v2
        place = prepare_one(hierarchy, root, wanted - limited)
        if place is not None:
            places.append(place)
            limited |= place.controllers
    if not any(place.version == 2 for place in places):
        places += _accounting(own, root, places)
    return Tree(tuple(places))


def limit_files(version: int, controller: str, limits: Limits) -> tuple[tuple[str, str], ...]:
    """(file, text) pairs that put `limits` on a group, in the order of writing. No memory goes to swap."""
    memory, quota = str(limits.memory_mib << 20), str(_PERIOD_US * limits.cpu_percent // 100)
    weight = _WEIGHT_FILES[version], _weight(version, limits.cpu_weight)
    table: dict[tuple[int, str], tuple[tuple[str, str], ...]] = {
        (1, "memory"): (("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory)),
        (2, "memory"): (("memory.max", memory), ("memory.swap.max", "0"), ("memory.oom.group", "1")),
        (1, "pids"): (("pids.max", str(limits.pids)),),
        (2, "pids"): (("pids.max", str(limits.pids)),),
        (1, "cpu"): (("cpu.cfs_period_us", str(_PERIOD_US)), ("cpu.cfs_quota_us", quota), weight),
        (2, "cpu"): (("cpu.max", f"{quota} {_PERIOD_US}"), weight),
    }
    return table.get((version, controller), ())


_WEIGHT_FILES = {1: "cpu.shares", 2: "cpu.weight"}


def _weight(version: int, weight: int) -> str:
    """As the file has it: version 1 counts the same in shares of 1024; the kernel takes no less than 2."""
    return str(max(2, weight * 1024 // 100) if version == 1 else weight)


def _limit(place: Place, limits: Limits) -> None:
    for controller in place.controllers:
        for file, value in limit_files(place.version, controller, limits):
            # Some limits exist only where swap is accounted for, or from a later kernel on.
            with contextlib.suppress(FileNotFoundError):
                write(f"{place.folder}/{file}", value)


def _prepare_v1(hierarchy: Hierarchy, root: str, wanted: frozenset[str]) -> Place | None:
    limiting = hierarchy.controllers & wanted
    if not limiting:
        return None
    folder = f"{root}{_base(hierarchy.folder)}/{WORKERS}"
    return Place(1, folder, limiting) if _made(folder) else None


def _prepare_v2(hierarchy: Hierarchy, root: str, wanted: frozenset[str]) -> Place | None:
    base = f"{root}{_base(hierarchy.folder)}"
    offered = frozenset(read(f"{base}/cgroup.controllers").split()) & wanted
    # The root group alone may have processes beside controllers; it is known by having no type.
    if offered and read(f"{base}/cgroup.type") and _made(f"{base}/{MAIN}"):
        try_write(f"{base}/{MAIN}/cgroup.procs", "0")
    if not _made(f"{base}/{WORKERS}"):
        return None
    handed_out = frozenset(
        controller
        for controller in offered
        if try_write(f"{base}/cgroup.subtree_control", f"+{controller}")
        and try_write(f"{base}/{WORKERS}/cgroup.subtree_control", f"+{controller}")
    )
    return Place(2, f"{base}/{WORKERS}", handed_out)


def _accounting(own: tuple[Hierarchy, ...], root: str, places: list[Place]) -> list[Place]:
    """Without version 2, which counts processor time by itself, the workers' groups are made in cpuacct too."""
    for hierarchy in own:
        folder = f"{root}{_base(hierarchy.folder)}/{WORKERS}"
        beside = all(place.folder != folder for place in places)
        if "cpuacct" in hierarchy.controllers and beside and _made(folder):
            return [Place(1, folder, frozenset())]
    return []


def _base(folder: str) -> str:
    """The group that was ours before an earlier life moved into `main/`."""
    return os.path.dirname(folder) if os.path.basename(folder) == MAIN else folder


def _make(folder: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o755)


def _made(folder: str) -> bool:
    """False when the kernel refuses: nothing was delegated to us there."""
    try:
        _make(folder)
    except OSError:
        return False
    return True


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in {errno.EBUSY, errno.ENOTEMPTY}:
            return False
        raise
    return True


def _children(folder: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except FileNotFoundError:
        return []


def _pids(folder: str) -> list[int]:
    return [int(line) for line in read(f"{folder}/cgroup.procs").split()]
