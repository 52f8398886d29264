# SPDX-License-Identifier: Apache-2.0
"""Owns what the kernel shows of one process to root: read once, all of it, as plain values; judges nothing.

It changes nothing and asks nobody but /proc.
"""

import os
import re
import stat

import msgspec

from supervisor.audit import descriptors, proc
from supervisor.audit.descriptors import Descriptor

_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \S+ *(.*)")


class Thread(msgspec.Struct, frozen=True):
    """One thread: its status, its namespaces, its groups by hierarchy."""

    tid: int
    status: dict[str, str]
    namespaces: dict[str, str]
    groups: dict[str, str]


class Mount(msgspec.Struct, frozen=True):
    """One line of mountinfo: its number, that of the mount in which it lies, where, of which kind, its own options."""

    number: int
    within: int
    point: str
    kind: str
    options: frozenset[str]


class Root(msgspec.Struct, frozen=True):
    """A root folder: the file that it is, its mode, and the device of the /run in it (None: there is none)."""

    file: tuple[int, int]
    mode: int
    run: int | None


class Process(msgspec.Struct, frozen=True):
    """One process. `program` is the file that runs, `program_link` its name; `environment` the names alone.

    `limits`: soft and hard by the kernel's name. `owner`: whom its /proc files belong to. `mappings`: protection and
    name of each."""

    pid: int
    parent: int
    threads: tuple[Thread, ...]
    program: tuple[int, int]
    program_link: str
    words: tuple[str, ...]
    environment: tuple[str, ...]
    limits: dict[str, tuple[str, str]]
    mounts: tuple[Mount, ...]
    root: Root
    descriptors: tuple[Descriptor, ...]
    owner: int
    mappings: tuple[tuple[str, str], ...]

    @property
    def main(self) -> Thread:
        """The first thread."""
        return next(thread for thread in self.threads if thread.tid == self.pid)


def gather(pid: int) -> Process | None:
    """All of it; None when the process ended meanwhile."""
    folder = f"{proc.PROC}/{pid}"
    try:
        began = proc.started(pid)
        threads = tuple(_threads(pid))
        program = os.stat(f"{folder}/exe")
        found = Process(
            pid=pid,
            parent=int(proc.status(folder)["PPid"]),
            threads=threads,
            program=(program.st_dev, program.st_ino),
            program_link=os.readlink(f"{folder}/exe"),
            words=proc.words(pid, "cmdline"),
            environment=tuple(word.partition("=")[0] for word in proc.words(pid, "environ")),
            limits=_limits(proc.text(f"{folder}/limits")),
            mounts=tuple(_mount(line) for line in proc.text(f"{folder}/mountinfo").splitlines()),
            root=root(pid),
            descriptors=descriptors.held(pid),
            owner=os.stat(f"{folder}/status").st_uid,
            mappings=tuple(_mappings(proc.text(f"{folder}/maps"))),
        )
        whole = began == proc.started(pid) and any(thread.tid == pid for thread in threads)
    except proc.GONE:
        return None
    return found if whole else None


def root(pid: int) -> Root:
    """The root of a process."""
    folder = f"{proc.PROC}/{pid}/root/"
    facts = os.stat(folder)
    try:
        run: int | None = os.stat(f"{folder}run/").st_dev
    except OSError:
        run = None
    return Root((facts.st_dev, facts.st_ino), stat.S_IMODE(facts.st_mode), run)


def _threads(pid: int) -> "list[Thread]":
    found = []
    for tid in proc.threads(pid):
        folder = f"{proc.PROC}/{pid}/task/{tid}"
        try:
            found.append(Thread(tid, proc.status(folder), proc.namespaces(folder), proc.groups(folder)))
        except proc.GONE:
            if tid == pid:
                raise
    return found


def _limits(text: str) -> dict[str, tuple[str, str]]:
    rows = [(line[:26].strip(), line[26:].split()) for line in text.splitlines()[1:]]
    return {name: (values[0], values[1]) for name, values in rows}


def _mount(line: str) -> Mount:
    left, _, right = line.partition(" - ")
    fields = left.split(" ")
    options = frozenset(fields[5].split(","))
    return Mount(int(fields[0]), int(fields[1]), _unescaped(fields[4]), right.split(" ")[0], options)


def _unescaped(name: str) -> str:
    """The kernel writes blanks and backslashes in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), name)


def _mappings(text: str) -> "list[tuple[str, str]]":
    return [(found[1], found[2]) for line in text.splitlines() if (found := _MAPPING.fullmatch(line))]
