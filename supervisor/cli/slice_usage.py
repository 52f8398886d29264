# SPDX-License-Identifier: Apache-2.0
"""Owns what the commands themselves measure of a systemd slice: its processes, memory and processor time.

Runs in the process of `agent-supervisor extensions` and its like; it reads the cgroup folders, and changes nothing.
"""

import os
from collections.abc import Iterable

import msgspec

from supervisor.jail.hierarchies import Hierarchy, parse

# By the hierarchy's version: bytes in use, of this the files that the kernel can drop, and processor time.
MEMORY = {1: "memory.usage_in_bytes", 2: "memory.current"}
CACHE = {1: "total_inactive_file", 2: "inactive_file"}
TIME = {1: "cpuacct.usage", 2: "cpu.stat"}


class SliceUsage(msgspec.Struct, frozen=True):
    """Of all processes in a slice: their pids, bytes of memory (without files that the kernel only keeps at hand),
    processor seconds since the slice is there. None where not readable; no slice, no pids."""

    pids: tuple[int, ...] = ()
    memory_bytes: int | None = None
    cpu_s: float | None = None


def slice_usage(name: str, proc: str = "/proc") -> SliceUsage:
    """What can be read of the slice `name` now."""
    folders = _folders(name, proc)
    pids = {pid for each in folders for pid in _pids(each.folder)}
    # A controller of version 1 first: version 2 has it not then.
    sorted_folders = sorted(folders, key=lambda each: each.version)
    return SliceUsage(tuple(sorted(pids)), _memory(sorted_folders), _seconds(sorted_folders))


def path_of(name: str) -> str:
    """Where systemd has the cgroup of a slice: a-b.slice in a.slice."""
    parts = name.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(parts[: at + 1])}.slice" for at in range(len(parts)))


def _folders(name: str, proc: str) -> tuple[Hierarchy, ...]:
    """The slice in every hierarchy that has it."""
    own = _read(f"{proc}/self/cgroup").splitlines()
    # The same hierarchies as this process's, and another group in each of them.
    moved = "\n".join(f"{line.rpartition(':')[0]}:{path_of(name)}" for line in own)
    return tuple(each for each in parse(moved, _read(f"{proc}/self/mountinfo")) if os.path.isdir(each.folder))


def _pids(folder: str) -> Iterable[int]:
    for inner, _, files in os.walk(folder):
        if "cgroup.procs" in files:
            yield from map(int, _read(f"{inner}/cgroup.procs").split())


def _memory(folders: Iterable[Hierarchy]) -> int | None:
    for each in folders:
        text = _read(f"{each.folder}/{MEMORY[each.version]}").strip()
        if text.isdecimal():
            return max(0, int(text) - _field(_read(f"{each.folder}/memory.stat"), CACHE[each.version]))
    return None


def _seconds(folders: Iterable[Hierarchy]) -> float | None:
    for each in folders:
        text = _read(f"{each.folder}/{TIME[each.version]}").strip()
        if text.isdecimal():
            return int(text) / 1e9
        if text.startswith("usage_usec "):
            return _field(text, "usage_usec") / 1e6
    return None


def _field(text: str, name: str) -> int:
    lines = (line.split(" ") for line in text.splitlines())
    return next((int(words[1]) for words in lines if words[0] == name), 0)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
