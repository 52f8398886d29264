# SPDX-License-Identifier: Apache-2.0
"""Owns the shape of what `agent-supervisor ps` shows; filled by the supervisor, read by the command."""

from typing import Literal

import msgspec

ProcessState = Literal["starting", "ready", "working", "degraded", "waiting", "exited"]


class Counters(msgspec.Struct, frozen=True):
    """Since the supervisor started: restarts of processes, violations of the channel's rules, requests refused."""

    restarts: int = 0
    violations: int = 0
    refused: int = 0


class Overview(msgspec.Struct, frozen=True):
    """The agent as a whole. `confinement` is full or reduced, `missing` names the mechanisms that the kernel lacks.

    `incarnation` is the goal state's, empty before the first; `started` is wall time in seconds since 1970."""

    version: str
    phase: str
    provisioning: str
    host: str
    incarnation: str
    confinement: str
    uptime_s: float
    started: float
    missing: tuple[str, ...] = ()
    counters: Counters = Counters()


class ProcessRow(msgspec.Struct, frozen=True):
    """One process, or the place of one. `pid` is 0 when it does not run; `since_s`: so long in this state.

    `capabilities` are those it may have at most (bounding set), `filters` the system call filters in force on it."""

    name: str
    kind: str
    pid: int
    uid: int
    state: ProcessState
    since_s: float
    restarts: int = 0
    last_exit: str = ""
    capabilities: tuple[str, ...] = ()
    filters: int = 0
    cgroup: str = ""
    level: str = ""


class Snapshot(msgspec.Struct, frozen=True):
    """The answer to `ps`."""

    overview: Overview
    processes: tuple[ProcessRow, ...]

    def as_data(self) -> dict[str, object]:
        """As plain data, for the control socket."""
        data: dict[str, object] = msgspec.to_builtins(self)
        return data
