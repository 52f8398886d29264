# SPDX-License-Identifier: Apache-2.0
"""Owns what the agent itself uses: processor time and memory of its whole cgroup, read through open descriptors.

Runs in the supervisor. The files are opened while they still can be; a hierarchy that is not there is left out.
"""

import os

import msgspec

from supervisor.clock import Clock
from supervisor.jail.hierarchies import Hierarchy, parse
from supervisor.kernel_view import read

# Bytes in use; nanoseconds of processor time, but version 2 has microseconds in a file of several lines.
MEMORY_FILES = {1: "memory.usage_in_bytes", 2: "memory.current"}
TIME_FILES = {1: "cpuacct.usage", 2: "cpu.stat"}
USAGE = "usage_usec"


class Usage(msgspec.Struct, frozen=True):
    """Since the last reading: processor time in percent of one processor; memory now, in bytes. None: not known."""

    processor_percent: float | None
    memory_bytes: int | None


class Meters:
    """The agent's meters."""

    def __init__(self, clock: Clock, hierarchies: tuple[Hierarchy, ...]) -> None:
        """`hierarchies` show the agent's cgroups: the spawner's own, with all that is below them."""
        self._clock = clock
        self._memory = _open(hierarchies, "memory", MEMORY_FILES)
        self._time = _open(hierarchies, "cpuacct", TIME_FILES)
        self._last = clock.monotonic(), self._seconds()

    def read(self) -> Usage:
        """What they show."""
        now, used = self._clock.monotonic(), self._seconds()
        (before, used_before), self._last = self._last, (now, used)
        percent = None
        if used is not None and used_before is not None and now > before:
            percent = round(100 * max(0.0, used - used_before) / (now - before), 3)
        text = _text(self._memory)
        return Usage(percent, int(text) if text.isdecimal() else None)

    def _seconds(self) -> float | None:
        text = _text(self._time)
        if text.isdecimal():
            return int(text) / 1e9
        fields = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        return int(fields[USAGE]) / 1e6 if USAGE in fields else None


def own_meters(clock: Clock) -> Meters:
    """The meters of this agent: the supervisor's parent is the spawner. None of them where its groups are not told."""
    try:
        return Meters(clock, parse(read(f"/proc/{os.getppid()}/cgroup"), read("/proc/self/mountinfo")))
    except OSError:
        return Meters(clock, ())


def _open(hierarchies: tuple[Hierarchy, ...], controller: str, names: dict[int, str]) -> int | None:
    """The file of that controller, of version 1 before version 2, of which it may be short."""
    for hierarchy in sorted(hierarchies, key=lambda each: each.version):
        if hierarchy.version == 1 and controller not in hierarchy.controllers:
            continue
        try:
            return os.open(f"{hierarchy.folder}/{names[hierarchy.version]}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
    return None


def _text(descriptor: int | None) -> str:
    if descriptor is None:
        return ""
    try:
        return os.pread(descriptor, 4096, 0).decode("ascii", "replace").strip()
    except OSError:
        return ""
