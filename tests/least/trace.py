# SPDX-License-Identifier: Apache-2.0
"""Owns the tracing of system calls: the kernel asks about each one, and whose it is and in which stage is written down.

Runs as a thread of the test, outside the lab, as root. A call that a filter refuses is never asked about.
"""

import os
import re
import select
import struct
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyseccomp

from tests.fabric.lab import Lab
from tests.fabric.scene import spawner_pid
from tests.jail.rigged import HOME
from tests.kills import launcher
from tests.kills.listener import Listener, Question

if TYPE_CHECKING:
    import subprocess

FILTER = f"{HOME}/ask-about-all"
# BPF: return SECCOMP_RET_USER_NOTIF, whatever the call.
ASK_ABOUT_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FC00000)
Stage = Literal["start", "locked"]
_WORKER = re.compile(r"/workers/([a-z][a-z0-9-]*)\.\d+(?=/|$)", re.MULTILINE)
_SUPERVISOR = re.compile(r"/supervisor$", re.MULTILINE)
SPAWNER = "spawner"


class Tracer(threading.Thread):
    """`used`: (kind, stage) -> names of the calls that were made. Give `command` and `attach` to a rig."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(name="tracer", daemon=True)
        self.used: dict[tuple[str, Stage], set[str]] = defaultdict(set)
        self.trouble: OSError | None = None
        lab.path(FILTER).write_bytes(ASK_ABOUT_ALL)
        self.command = [sys.executable, "-I", "-S", str(Path(launcher.__file__)), FILTER]
        self._names: dict[int, str] = {}
        # Of the spawner before it loads any filter of its own: what a container has it under, and ours.
        self._outer = 0
        self._listener: Listener | None = None
        self._settled: dict[int, tuple[str, Stage]] = {}
        self._stop_read, self._stop_write = os.pipe()

    def attach(self, process: "subprocess.Popen[bytes]") -> None:
        """Take over from the launcher that `process` began."""
        pid = spawner_pid(process)
        self._listener = Listener(pid)
        self._outer = _filters(pid)
        self.start()

    def stop(self) -> None:
        """End it. Whoever still asks hears that there is no such call: everybody should be gone."""
        os.write(self._stop_write, b".")
        self.join(10)
        if self._listener is not None:
            self._listener.close()
        os.close(self._stop_read)
        os.close(self._stop_write)
        if self.trouble is not None:
            raise self.trouble

    def run(self) -> None:
        assert self._listener is not None
        poller = select.poll()
        poller.register(self._listener.fileno(), select.POLLIN)
        poller.register(self._stop_read, select.POLLIN)
        try:
            while self._stop_read not in {descriptor for descriptor, _ in poller.poll()}:
                question = self._listener.question()
                if question is not None:
                    self._note(question)
                    self._listener.let(question)
        except OSError as error:
            self.trouble = error
            self._listener.close()
            self._listener = None

    def _note(self, question: Question) -> None:
        whose = self._settled.get(question.tid) or self._look(question.tid)
        if whose is not None:
            self.used[whose].add(self._called(question.number))

    def _look(self, tid: int) -> tuple[str, Stage] | None:
        """Kind and stage of the thread; None before its first filter, and when it is gone."""
        try:
            above = _filters(tid) - self._outer
            kind = _kind(tid)
        except OSError:
            return None
        # A spawner's child inherits its one filter and then loads two of its own.
        if kind == SPAWNER:
            return (SPAWNER, "locked") if above == 1 else None
        if above < 2:
            return None
        whose: tuple[str, Stage] = (kind, "locked" if above > 2 else "start")
        if whose[1] == "locked":
            self._settled[tid] = whose
        return whose

    def _called(self, number: int) -> str:
        if number not in self._names:
            name = pyseccomp.resolve_syscall(pyseccomp.system_arch(), number)
            self._names[number] = name.decode() if isinstance(name, bytes) else str(name)
        return self._names[number]


def _kind(tid: int) -> str:
    text = Path(f"/proc/{tid}/cgroup").read_text()
    if worker := _WORKER.search(text):
        return worker[1]
    return "supervisor" if _SUPERVISOR.search(text) else SPAWNER


def _filters(tid: int) -> int:
    lines = Path(f"/proc/{tid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Seccomp_filters:"))
