# SPDX-License-Identifier: Apache-2.0
"""Owns the answer to `ps`: what every process is and does, from the supervisor's own tables and the kernel's.

Runs in the supervisor. It reads only, apart from `restart`, which ends one worker.
"""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from ipc.records import missing_names
from policy import capability
from policy.level import level_of
from policy.profile import Profile
from supervisor.audit_log import AuditLog
from supervisor.contact import Contact
from supervisor.control import ControlServer
from supervisor.dispatch import Table
from supervisor.egress.guard import Guard
from supervisor.fleet import Fleet
from supervisor.kernel_view import read, status_fields
from supervisor.loop import Loop
from supervisor.provisioning import Provisioning
from supervisor.rounds import Rounds
from supervisor.status import HANDLER, Counters, Overview, PolicyInForce, ProcessRow, Snapshot
from supervisor.version import VERSION
from supervisor.worker import Worker

if TYPE_CHECKING:
    from supervisor.extensions.shown import ShownExtension


class Watched(Protocol):
    """The parts of the supervisor that are shown."""

    loop: Loop
    fleet: Fleet
    table: Table
    contact: Contact
    guard: Guard
    provisioning: Provisioning
    rounds: Rounds
    control: ControlServer | None
    audit: AuditLog


class Past(msgspec.Struct, frozen=True):
    """What the spawner says: of this process' earlier lives (`anew`: the last one has provisioned, and made room),
    and where the policy in force is, -1: the shipped one."""

    restarts: int
    last_exit: str
    policy: int = -1
    anew: bool = False


NO_PAST = Past(0, "")


class Observer:
    """Makes snapshots."""

    def __init__(self, watched: Watched, profiles: Mapping[str, Profile], policy: PolicyInForce, past: Past) -> None:
        self._watched = watched
        self._policy = policy
        self._past = past
        self._profiles = profiles
        self._started_wall = watched.loop.clock.wall()
        self._started = watched.loop.clock.monotonic()

    def snapshot(self) -> dict[str, object]:
        """The data of `ps`, as plain types."""
        watched = self._watched
        goal_state = watched.contact.goal_state
        missing = tuple(sorted(watched.fleet.births.missing))
        overview = Overview(
            version=VERSION,
            phase=watched.table.phase,
            provisioning=watched.provisioning.text,
            host=self._host_text(),
            incarnation=goal_state.incarnation if goal_state is not None else "",
            confinement=level_of(missing),
            uptime_s=round(self._now() - self._started, 3),
            started=self._started_wall,
            missing=missing,
            counters=Counters(
                self._past.restarts + sum(restarts.total for restarts in watched.fleet.restarts.values()),
                watched.fleet.violations,
                watched.control.refused if watched.control is not None else 0,
                watched.audit.lost,
            ),
            status=watched.provisioning.standing.status(),
            policy=self._policy,
            egress=watched.guard.status,
            secure_channel=watched.contact.channel.text if watched.contact.channel is not None else "",
            contact=watched.rounds.contact,
        )
        workers = [self._worker_row(worker) for worker in watched.fleet.births.workers.values()]
        rows = (self._own_row("spawner", os.getppid()), self._own_row("supervisor", os.getpid(), self._past), *workers)
        return Snapshot(overview, (*rows, *self._absent_rows(), *self._handler_rows())).as_data()

    def reads(self) -> dict[str, Callable[[], dict[str, object]]]:
        """What may be read, by the verb's name."""
        return {
            "ps": self.snapshot,
            "version": lambda: {"version": VERSION, "policy": self._policy.sentence},
            "status": lambda: dict(msgspec.to_builtins(self._watched.provisioning.standing.status())),
            "goal-state": self._watched.rounds.goal_state,
            "extensions": self._watched.rounds.extensions,
            "certificates": self._watched.rounds.certificates,
        }

    def restart(self, name: str) -> str:
        """Kill the worker called `name`; its job is begun anew by a fresh one."""
        for worker in self._watched.fleet.births.workers.values():
            if worker.name == name:
                self._watched.fleet.births.kill(worker)
                return f"{name} was killed; its job is begun anew"
        raise ValueError(f"no worker is called {name}")

    def _host_text(self) -> str:
        host = self._watched.contact.known_host
        trouble_said = self._watched.contact.trouble or self._watched.rounds.trouble
        if host is None:
            return trouble_said or "not asked yet"
        status = host.status()
        if status.troubles:
            trouble = status.troubles[0]
            wait = max(0.0, trouble.next_try_at - self._now())
            return f"{status.address}: {trouble.error} (attempt {trouble.attempts}, next in {wait:.0f} s)"
        if trouble_said:
            return f"{status.address}: {trouble_said}"
        if status.last_answer_at is None:
            return f"{status.address}: {status.last_error or 'no answer yet'}"
        return f"{status.address}: answered {self._now() - status.last_answer_at:.0f} s ago"

    def _own_row(self, kind: str, pid: int, past: Past = NO_PAST) -> ProcessRow:
        status = status_fields(_try_read(f"/proc/{pid}/status"))
        return ProcessRow(
            name=kind,
            kind=kind,
            pid=pid,
            uid=0,
            state="working",
            since_s=age_s(pid, self._now()),
            restarts=past.restarts,
            last_exit=past.last_exit,
            capabilities=capability.names(int(status.get("CapBnd", "0"), 16)),
            filters=int(status.get("Seccomp_filters", "0")),
            cgroup=_group(_try_read(f"/proc/{pid}/cgroup")),
        )

    def _worker_row(self, worker: Worker) -> ProcessRow:
        status = status_fields(_try_read(f"/proc/{worker.pid}/status")) if worker.pid else {}
        missing = missing_names(worker.missing)
        return ProcessRow(
            name=worker.name,
            kind=worker.kind,
            pid=worker.pid,
            uid=worker.uid,
            state=worker.state,
            since_s=round(self._now() - worker.since, 3),
            restarts=self._watched.fleet.restarts[worker.kind].total,
            last_exit=self._watched.fleet.births.last_exit.get(worker.kind, ""),
            capabilities=capability.names(int(status.get("CapBnd", "0"), 16)),
            filters=int(status.get("Seccomp_filters", "0")),
            cgroup=_group(_try_read(f"/proc/{worker.pid}/cgroup")) if worker.pid else "",
            level=f"{level_of(missing)}: {', '.join(missing)}" if missing else "full",
        )

    def _handler_rows(self) -> list[ProcessRow]:
        """One for each handler that has a slice; what there is in it the command sees itself."""
        shown = [each for each in self._watched.rounds.handlers() if each.slice]
        # Of a handler that has several extensions, the one whose command is under way.
        last = {each.handler: each for each in sorted(shown, key=lambda each: bool(each.running))}
        now = self._watched.loop.clock.wall()
        return [
            ProcessRow(
                name=f"{name} {one.running}".rstrip(),
                kind=HANDLER,
                pid=0,
                uid=0,
                state="working" if one.running else "waiting",
                since_s=round(max(0.0, now - _since(one, now)), 3),
                cgroup=one.slice,
            )
            for name, one in last.items()
        ]

    def _absent_rows(self) -> list[ProcessRow]:
        """Kinds of which none lives now, but one died before its time: they should not vanish from sight."""
        fleet = self._watched.fleet
        alive = {worker.kind for worker in fleet.births.workers.values()}
        return [
            ProcessRow(
                name=kind,
                kind=kind,
                pid=0,
                uid=self._profiles[kind].identity.uid,
                state="degraded" if restarts.degraded else "exited",
                since_s=0.0,
                restarts=restarts.total,
                last_exit=fleet.births.last_exit.get(kind, ""),
            )
            for kind, restarts in fleet.restarts.items()
            if kind not in alive and restarts.total
        ]

    def _now(self) -> float:
        return self._watched.loop.clock.monotonic()


def _since(handler: "ShownExtension", now: float) -> float:
    """Since when its command runs, or none does any more; `now` where that is not known."""
    ended = handler.last.ended if handler.last is not None else now
    return handler.since if handler.running else ended


def age_s(pid: int, boot_time_s: float) -> float:
    """How long the process `pid` runs, by the kernel's word; `boot_time_s` is now, since the machine's start."""
    fields = _try_read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    ticks = int(fields[19]) if len(fields) > 19 else 0
    return round(max(0.0, boot_time_s - ticks / os.sysconf("SC_CLK_TCK")), 3) if ticks else 0.0


def _try_read(path: str) -> str:
    try:
        return read(path)
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _group(text: str) -> str:
    """The group of a limiting hierarchy (memory), else of version 2."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    return next((path for _, names, path in lines if "memory" in names.split(",")), lines[-1][2] if lines else "")
