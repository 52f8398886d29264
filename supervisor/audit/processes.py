# SPDX-License-Identifier: Apache-2.0
"""Owns finding the agent's processes without asking it: the spawner by its lock, all others by their cgroups.

Whoever is in one of the agent's groups and has no business there, or has a worker's uid outside them, is a stranger.
"""

import os
import re

import msgspec

from policy.profile import WORKER_UIDS
from supervisor.audit import proc
from supervisor.audit.hierarchies import MAIN, SUPERVISOR, WORKERS, Hierarchy

_NAME = re.compile(r"([a-z][a-z0-9-]*)\.([0-9]+)")


class Member(msgspec.Struct, frozen=True):
    """A process in one of the agent's groups. `kind` is empty for one that has no business there.

    `parent` is its parent."""

    pid: int
    kind: str
    instance: int
    parent: int

    @property
    def name(self) -> str:
        return self.kind if self.kind in {"", "spawner", SUPERVISOR} else f"{self.kind}.{self.instance}"


class Agent(msgspec.Struct, frozen=True):
    """The running agent: its spawner, its own group in each hierarchy that has its workers' groups, its processes, and
    (pid, uid) of those that have a worker's uid and are in none of its groups."""

    spawner: int
    groups: dict[str, str]
    members: tuple[Member, ...]
    with_our_uids: tuple[tuple[int, int], ...]


def holder(lock: str) -> int | None:
    """The process that holds the lock file, None when nobody does."""
    try:
        facts = os.stat(lock)
    except FileNotFoundError:
        return None
    wanted = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}:{facts.st_ino}"
    for line in proc.text(f"{proc.PROC}/locks").splitlines():
        fields = line.split()
        if "->" not in fields and fields[1] == "FLOCK" and fields[5] == wanted:
            return int(fields[4])
    return None


def find(spawner: int, hierarchies: tuple[Hierarchy, ...]) -> Agent:
    """All processes that belong to the agent of that spawner."""
    groups = _groups(spawner, hierarchies)
    parents: dict[int, int] = {}
    places: dict[int, set[str]] = {}
    strangers = []
    for pid in proc.pids():
        try:
            status = proc.status(f"{proc.PROC}/{pid}")
            inside = _places(proc.groups(f"{proc.PROC}/{pid}"), groups)
        except proc.GONE:
            continue
        parents[pid] = int(status["PPid"])
        if status["State"][:1] in "ZX" or status.get("Kthread") == "1":
            continue
        if inside:
            places[pid] = inside
        elif any(int(uid) in WORKER_UIDS for uid in status["Uid"].split()):
            strangers.append((pid, int(status["Uid"].split()[1])))
    members = tuple(_member(pid, inside, spawner, parents) for pid, inside in places.items())
    return Agent(spawner, groups, members, tuple(strangers))


def _groups(spawner: int, hierarchies: tuple[Hierarchy, ...]) -> dict[str, str]:
    """The agent's own group in each hierarchy in which it has groups for its workers."""
    found = {}
    for controllers, path in proc.groups(f"{proc.PROC}/{spawner}").items():
        base = os.path.dirname(path) if os.path.basename(path) == MAIN else path
        if any(one.controllers == controllers and one.has(f"{base}/{WORKERS}") for one in hierarchies):
            found[controllers] = base
    return found


def _places(groups: dict[str, str], agent: dict[str, str]) -> set[str]:
    """Where in the agent's groups a process is, in whichever hierarchy."""
    found = {below(path, agent[name]) for name, path in groups.items() if name in agent}
    return {place for place in found if place is not None}


def place(kind: str, instance: int) -> str:
    """Where, below the agent's own group, a process of that kind belongs."""
    if kind == "spawner":
        return ""
    return SUPERVISOR if kind == SUPERVISOR else f"{WORKERS}/{kind}.{instance}"


def below(path: str, base: str) -> str | None:
    """The group `path` as seen from the agent's own, MAIN counting as that; None outside of it.

    Where the agent's own is the hierarchy's root, everybody is in it and only what it made itself tells anything."""
    prefix = base.rstrip("/")
    if path != base and not path.startswith(f"{prefix}/"):
        return None
    rest = path[len(prefix) :].strip("/")
    if prefix == "" and rest != SUPERVISOR and not rest.startswith(f"{WORKERS}/"):
        return None
    return "" if rest == MAIN else rest


def _member(pid: int, inside: set[str], spawner: int, parents: dict[int, int]) -> Member:
    kind, instance = "", 0
    for place in inside:
        top, _, rest = place.partition("/")
        named = _NAME.fullmatch(rest.split("/")[0]) if top == WORKERS else None
        if named is not None:
            kind, instance = named[1], int(named[2])
    if not kind and SUPERVISOR in inside:
        kind = SUPERVISOR
    if pid == spawner:
        kind = "spawner"
    return Member(pid, kind, instance, parents[pid])
