# SPDX-License-Identifier: Apache-2.0
"""Owns who a thread belongs to: the spawner, the supervisor, a worker, or a companion and its programs.

Runs in the test. A worker is known by its cgroup, in which it is born, and by its parent, the spawner.
"""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

SPAWNER, SUPERVISOR = "spawner", "supervisor"
RESIDENTS = (SPAWNER, SUPERVISOR)
COMPANION = "-programs"
_WORKER = re.compile(r"/workers/([a-z][a-z-]*)\.\d+(?=/|$)", re.MULTILINE)
_SUPERVISOR = re.compile(r"/supervisor$", re.MULTILINE)


@dataclass(frozen=True)
class Actor:
    """Thread `tid` of process `pid`, which works for the agent's process `main` of kind `kind`.

    `program` is empty for that process itself; `main` is 0 when it is gone already."""

    tid: int
    pid: int
    main: int
    kind: str
    program: str = ""

    @property
    def is_companion(self) -> bool:
        """Whether it is a companion's own process, no program of its."""
        return self.kind.endswith(COMPANION) and not self.program

    @property
    def name(self) -> str:
        role = self.program or ("" if self.tid == self.pid else "input and output")
        return f"{self.kind} [{role}]" if role else self.kind


class Processes:
    """Looks threads up, each as seldom as possible."""

    def __init__(self) -> None:
        self._spawners: set[int] = set()
        self._kinds: dict[int, str] = {}
        self._mains: dict[int, tuple[int, int]] = {}

    def add_spawner(self, pid: int) -> None:
        self._spawners.add(pid)
        self._kinds[pid] = SPAWNER

    def forget(self) -> None:
        """Look everybody up anew; spawners that are gone are none any more."""
        self._spawners = {pid for pid in self._spawners if Path(f"/proc/{pid}").exists()}
        self._kinds = dict.fromkeys(self._spawners, SPAWNER)
        self._mains.clear()

    def actor(self, tid: int) -> Actor:
        """Whose thread that is; OSError when it is gone."""
        if tid not in self._mains:
            pid = int(_status(tid)["Tgid"])
            self._mains[tid] = pid, self._main_of(pid)
        pid, main = self._mains[tid]
        kind = self.kind(pid)
        if kind == SPAWNER and pid not in self._spawners:
            # It tries out what the kernel has, or is on its way to its group.
            return Actor(tid, pid, int(_status(pid)["PPid"]), kind, "child")
        program = "" if pid == main else Path(f"/proc/{tid}/exe").readlink().name
        return Actor(tid, pid, main, kind, program)

    def kind(self, pid: int) -> str:
        """`spawner`, `supervisor` or a worker's kind."""
        known = self._kinds.get(pid)
        if known is not None:
            return known
        found = SPAWNER
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/cgroup").read_text()
            if worker := _WORKER.search(text):
                found = worker[1]
            elif _SUPERVISOR.search(text):
                found = SUPERVISOR
        if found != SPAWNER:  # the spawner's child may only be on its way to its group
            self._kinds[pid] = found
        return found

    def _main_of(self, pid: int) -> int:
        """The spawner itself, or the child of a spawner's that `pid` is or descends from; 0 when that is gone."""
        while pid > 1 and pid not in self._spawners:
            parent = int(_status(pid)["PPid"])
            if parent in self._spawners:
                return pid
            pid = parent
        return pid if pid in self._spawners else 0


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
