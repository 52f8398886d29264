# SPDX-License-Identifier: Apache-2.0
"""Owns looking for secrets in the memory of every process of an agent, each time that it is about to say something.

Runs in the test, as root, beside an agent whose effects are asked for first (tests/kills): whoever asks stands still
while it is searched. It changes nothing.
"""

import contextlib
import os
import re
import select
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.fabric.scene import AGENT, AGENT_LOG, Scene, spawner_pid
from tests.kills import launcher
from tests.kills.calls import numbers, program
from tests.kills.listener import Listener, Question
from tests.kills.processes import RESIDENTS, Processes

FILTER = "/run/fabric/filter"
# By then a process has in its memory what it works with: it answers, ends, or becomes a program.
MOMENTS = frozenset({"sendmsg", "sendto", "exit_group", "execve"})
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw\S+ \S+ \S+ \S+ *(.*)")
PAGE = os.sysconf("SC_PAGE_SIZE")
# Of each page the uppermost byte in pagemap: bit 7 it is in memory, bit 6 in swap.
_TOUCHED = re.compile(rb"[\x40-\xff]+")


class Pattern(NamedTuple):
    """A secret begins with `begins` and goes on as `form` says (of the whole): megabytes are searched in an instant."""

    begins: bytes
    form: str = ""

    def found_in(self, content: bytes) -> Iterator[bytes]:
        whole = re.compile(self.form.encode() if self.form else re.escape(self.begins))
        at = content.find(self.begins)
        while at >= 0:
            if match := whole.match(content, at):
                yield match[0]
            at = content.find(self.begins, at + 1)


Patterns = Mapping[str, Sequence[Pattern]]


def secrets_in(pid: int, patterns: Patterns) -> dict[str, set[bytes]]:
    """What of each kind is in the writable memory of a process, or in a memfd that it has open."""
    found: dict[str, set[bytes]] = defaultdict(set)
    for content in (*_memory(pid), *_memfds(pid)):
        for name, forms in patterns.items():
            for pattern in forms:
                found[name].update(pattern.found_in(content))
    return {name: texts for name, texts in found.items() if texts}


def _memory(pid: int) -> Iterator[bytes]:
    """Each stretch of pages that it has ever touched."""
    with (
        open(f"/proc/{pid}/mem", "rb", buffering=0) as memory,  # noqa: PTH123 - unbuffered
        open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pages,  # noqa: PTH123
    ):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if mapping := _MAPPING.fullmatch(line):
                begin, end = int(mapping[1], 16) // PAGE, int(mapping[2], 16) // PAGE
                present = os.pread(pages.fileno(), 8 * (end - begin), 8 * begin)[7::8]
                for stretch in _TOUCHED.finditer(present):
                    with contextlib.suppress(OSError):
                        size = (stretch.end() - stretch.start()) * PAGE
                        yield os.pread(memory.fileno(), size, (begin + stretch.start()) * PAGE)


def _memfds(pid: int) -> Iterator[bytes]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(entry.readlink()).startswith("/memfd:"):
                yield entry.read_bytes()


class Watch(threading.Thread):
    """`seen` has, by the name of a process ("account", "password-programs [chpasswd]"), what it ever had of each
    pattern; the two that live on are for the test to search. `attach` it to the agent's start."""

    def __init__(self, patterns: Patterns) -> None:
        super().__init__(name="watch", daemon=True)
        self.seen: dict[str, dict[str, set[bytes]]] = defaultdict(lambda: defaultdict(set))
        self.trouble: OSError | None = None
        self._patterns = patterns
        self._names = numbers()
        self._processes = Processes()
        self._listener: Listener | None = None
        self._wake, self._waker = os.pipe()

    def attach(self, pid: int) -> None:
        """The agent's first process is `pid`; it waits for us."""
        self._listener = Listener(pid)
        self._processes.add_spawner(pid)
        self.start()

    def end(self) -> None:
        """Nobody is asked any more: the agent has to be gone."""
        os.write(self._waker, b".")
        self.join(10)
        os.close(self._wake)
        os.close(self._waker)
        if self.trouble is not None:
            raise self.trouble

    def run(self) -> None:
        assert self._listener is not None
        poller = select.poll()
        for descriptor in (self._wake, self._listener.fileno()):
            poller.register(descriptor, select.POLLIN)
        try:
            while (ready := dict(poller.poll())) and self._wake not in ready:
                if not ready[self._listener.fileno()] & select.POLLIN:
                    return
                question = self._listener.question()
                if question is not None:
                    self._look(question)
                    self._listener.let(question)
        except OSError as trouble:
            self.trouble = trouble
            raise
        finally:
            self._listener.close()

    def _look(self, question: Question) -> None:
        if self._names[question.number] not in MOMENTS:
            return
        with contextlib.suppress(OSError):  # it is gone
            actor = self._processes.actor(question.tid)
            if actor.kind not in RESIDENTS:
                seen = self.seen[f"{actor.kind} [{actor.program}]" if actor.program else actor.kind]
                for name, texts in secrets_in(actor.pid, self._patterns).items():
                    seen[name] |= texts


@dataclass
class WatchedScene(Scene):
    """A scene whose agent is watched."""

    watch: Watch = field(default_factory=lambda: Watch({}))

    def start_agent(self, *options: str) -> subprocess.Popen[bytes]:
        """As the scene's, with every effect asked for first."""
        self.lab.path(FILTER).write_bytes(program())
        command = [sys.executable, "-I", "-S", str(Path(launcher.__file__)), FILTER, str(AGENT), "run", *options]
        with self.lab.path(AGENT_LOG).open("ab") as log:
            agent = self.lab.popen(command, cgroup=self.agent_cgroup, stdout=log, stderr=log)
        self.watch.attach(spawner_pid(agent))
        return agent
