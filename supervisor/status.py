# SPDX-License-Identifier: Apache-2.0
"""Owns the shape of what `agent-supervisor ps` and `status` show; filled by the supervisor, read by the commands."""

from typing import Literal

import msgspec

# As people know them from cloud-init.
StatusWord = Literal["not started", "running", "done", "error", "disabled"]
ProcessState = Literal["starting", "ready", "working", "degraded", "waiting", "exited"]


class Counters(msgspec.Struct, frozen=True):
    """Since the supervisor started: restarts of processes, violations of the channel's rules, requests refused."""

    restarts: int = 0
    violations: int = 0
    refused: int = 0


class Status(msgspec.Struct, frozen=True):
    """Where provisioning stands. `detail` is what is being done, or what came of it; `since` wall time in seconds since
    1970, of the last change of `status`.

    `error` names the OVF element or the option, and what was expected; empty unless `status` is error. `changed`:
    whether a failure left anything changed on the machine, None where that is no question. `next` is what happens by
    itself. `troubles` tell what a provisioned VM still lacks. `agent` is who provisions, "nobody" if nobody does."""

    status: StatusWord = "not started"
    detail: str = ""
    since: float = 0.0
    error: str = ""
    changed: bool | None = None
    next: str = ""
    ready: bool = False
    troubles: tuple[str, ...] = ()
    agent: str = "agent-supervisor"

    @property
    def is_over(self) -> bool:
        return self.status in {"done", "error", "disabled"}

    @property
    def sentence(self) -> str:
        """All that matters in one line."""
        detail = self.detail.removeprefix(self.status).lstrip(" ,;")
        told = detail if self.changed is None else with_consequence(detail, changed=self.changed)
        return "; ".join(text for text in (self.status, told, self.next) if text)


def changes_sentence(*, changed: bool) -> str:
    """What a failure left behind, for people."""
    return "what was changed so far stays" if changed else "nothing was changed"


def with_consequence(problem: str, *, changed: bool) -> str:
    """`problem`, and what it left behind, unless it says so itself."""
    sentence = changes_sentence(changed=changed)
    return problem if problem.endswith(sentence) else f"{problem}; {sentence}"


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
    status: Status = Status()


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
