# SPDX-License-Identifier: Apache-2.0
"""Owns one whole audit: finds the agent, looks at each process and at the machine, and puts the report together.

Runs in the command, as root. It only reads; in depth, threads are stopped for milliseconds (ptrace.py).
"""

import os
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from ipc.errors import ConfigError
from policy.load import own_folder
from policy.placeholders import LIB
from policy.profile import WORKER_UIDS
from supervisor import config as configuration
from supervisor import options
from supervisor.audit import calls, deep, facts, here, judge, proc, processes, written
from supervisor.audit.expected import Expected, Machine, runs_programs
from supervisor.audit.files import state
from supervisor.audit.findings import VERSION, Finding, Report, Subject, check
from supervisor.audit.hierarchies import Hierarchy, mounted
from supervisor.audit.installation import installation
from supervisor.audit.processes import Agent, Member
from supervisor.layout import Layout

if TYPE_CHECKING:
    from supervisor.audit.facts import Process

# A process that is not as written but so young may still be on its way into its confinement: it is looked at again.
START_S = 3.0
# So long may a worker take to load its last filter, which it does before it is given work; then it would be killed.
LOCK_S = 30.0
_AGAIN_S = 0.02


def survey(layout: Layout, *, deep: bool) -> Report:
    """One look, or some more: where one supervisor has ended and the next is not there yet, it is waited for.

    FileNotFoundError when no agent is running."""
    deadline = time.monotonic() + START_S
    while True:
        report = Survey(layout, deep=deep).report()
        whole = any(subject.name == "supervisor" for subject in report.subjects) or not report.policy
        if whole or time.monotonic() > deadline:
            return report
        time.sleep(_AGAIN_S)


class Survey:
    """One look. `deep` stops threads to ask them what only they can tell."""

    def __init__(self, layout: Layout, *, deep: bool) -> None:
        """FileNotFoundError when no agent is running."""
        spawner = processes.holder(f"{layout.run}/lock")
        if spawner is None:
            raise FileNotFoundError(layout.run)
        self._layout = layout
        self._deep = deep
        hierarchies = mounted()
        self._agent = processes.find(spawner, hierarchies)
        self._machine = _machine(hierarchies, self._agent)
        self._config_path = _config_path(self._agent, layout)
        self._written = written.read(self._config_path, time.time() - proc.age_s(spawner))
        self._above = int(proc.status(f"{proc.PROC}/{spawner}").get("Seccomp_filters", "0"))
        self._handed_on: tuple[bytes, ...] | None = None
        self._seen: list[Process] = []
        self._strangers: list[Finding] = []
        self._notes: list[str] = []

    def report(self) -> Report:
        """All of it."""
        subjects = [subject for member in self._in_order() if (subject := self._member(member)) is not None]
        if not any(subject.name == "supervisor" for subject in subjects):
            written = "one, as long as the spawner lives"
            self._strangers.append(Finding("there is no supervisor", written, "policy/profiles/supervisor.toml"))
        return Report(
            version=VERSION,
            time=time.time(),
            kernel=os.uname().release,
            deep=self._deep,
            policy=self._written.digest,
            subjects=(self._whole(), *subjects),
            notes=tuple(self._notes),
        )

    def _in_order(self) -> "list[Member]":
        """The spawner first: what it has handed on is what the others are held against."""
        first = {"spawner": 0, "supervisor": 1}
        return sorted(self._agent.members, key=lambda member: (first.get(member.kind, 2), member.name, member.pid))

    def _member(self, member: Member) -> Subject | None:
        """Nothing for a stranger, which is noted, and for one that ended."""
        if not self._written.kinds:
            self._notes.append(f"{member.name or 'a stranger'}, process {member.pid}: nothing to hold it against")
            return None
        compiled = self._written.kinds.get(member.kind)
        is_main = member.kind == "spawner" or member.parent == self._agent.spawner
        if compiled is None or not (is_main or runs_programs(compiled)):
            self._note_stranger(member)
            return None
        expected = Expected(
            compiled=compiled,
            source=self._written.sources[member.kind],
            name=member.name,
            uid=compiled.profile.identity.uid + (member.instance if compiled.profile.identity.uid else 0),
            place=processes.place(member.kind, member.instance),
            spawner=self._agent.spawner,
            above=0 if member.kind == "spawner" else self._above,
            machine=self._machine,
            handed_on=None if member.kind == "spawner" else self._handed_on,
        )
        expected = self._as_here(expected)
        due = expected.above + len(expected.own_filters)
        while True:
            unlocked = is_main and _filters(member.pid) == due - 1
            subject = self._look(expected, member, is_main=is_main)
            if subject is None:
                self._notes.append(f"{member.name}, process {member.pid}, ended while it was looked at")
            if subject is None or not subject.red:
                return subject
            if not _is_young(member.pid) and not (unlocked and _locks(member.pid, due)):
                return subject
            time.sleep(_AGAIN_S)

    def _as_here(self, expected: Expected) -> Expected:
        """With the folders that settings name."""
        if expected.profile.kind == "supervisor":
            return here.supervisor(expected, self._config())
        names_lib = any(grant.path == LIB for grant in expected.profile.paths)
        return here.worker(expected, self._config()) if names_lib else expected

    def _look(self, expected: Expected, member: Member, *, is_main: bool) -> Subject | None:
        process = facts.gather(member.pid)
        if process is None:
            return None
        looked = None
        if self._deep:
            probe = deep.probe_for(expected.profile, self._machine.landlock) if not expected.is_spawner else None
            looked = deep.look(member.pid, [thread.tid for thread in process.threads], probe)
            if looked is None:
                return None
            if expected.is_spawner:
                self._handed_on = looked.threads[0].filters
        if expected.is_spawner or expected.profile.kind == "supervisor":
            self._seen.append(process)
        return (judge.judge if is_main else judge.judge_program)(expected, process, looked)

    def _note_stranger(self, member: Member) -> None:
        try:
            words = " ".join(proc.words(member.pid, "cmdline"))[:100] or "a program without a name"
        except proc.GONE:
            return
        where = member.name or "the agent's own group"
        written = f"only {member.name}" if member.name else "the spawner alone"
        self._strangers.append(Finding(f"process {member.pid} ({words}) is in {where}", written, "the agent's cgroups"))

    def _whole(self) -> Subject:
        """What belongs to the machine as a whole, once all processes have been looked at."""
        config = self._config()
        kinds = self._written.kinds
        project = os.path.dirname(own_folder())
        processes_check = check("processes", [*self._strangers, *_with_our_uids(self._agent)])
        checks = (
            processes_check,
            self._written.check,
            state(
                msgspec.structs.replace(self._layout, lib=config[options.LIB_DIR]), config[options.CONTROL_GROUP], kinds
            ),
            installation(self._seen, project),
        )
        return Subject("machine", "machine", 0, 0, checks)

    def _config(self) -> configuration.Config:
        """The agent's settings; the defaults where they can't be read any more."""
        try:
            return configuration.load(self._config_path).config
        except ConfigError as error:
            self._notes.append(f"its settings can't be read: {error}; held against the defaults")
            return configuration.Config()


def _config_path(agent: Agent, layout: Layout) -> str:
    """The settings' file, as the supervisor's command line names it: -I -m supervisor.main FILE ..."""
    for member in agent.members:
        words = proc.words(member.pid, "cmdline") if member.kind == "supervisor" else ()
        if words[1:4] == ("-I", "-m", "supervisor.main") and len(words) > 4:
            return words[4]
    return layout.config


def _machine(hierarchies: "tuple[Hierarchy, ...]", agent: Agent) -> Machine:
    program = os.stat(sys.executable)
    landlock = calls.landlock_version()
    absent = {"landlock"} if not landlock else set()
    if not calls.can_deny_writable_code():
        absent.add("mdwe")
    if not _gives_user_namespaces():
        absent.add("user-namespace")
    return Machine(
        namespaces=proc.namespaces(f"{proc.PROC}/1"),
        root=facts.root(1),
        program=(program.st_dev, program.st_ino),
        hierarchies=hierarchies,
        groups=agent.groups,
        absent=frozenset(absent),
        landlock=landlock,
    )


def _gives_user_namespaces() -> bool:
    try:
        return int(proc.text(f"{proc.PROC}/sys/user/max_user_namespaces")) > 0
    except proc.GONE:
        return False


def _with_our_uids(agent: Agent) -> "list[Finding]":
    written = f"uids {WORKER_UIDS[0]} to {WORKER_UIDS[-1]} are the workers' alone"
    return [
        Finding(f"process {pid} has a worker's uid, {uid}", written, "policy/profile.py: WORKER_UIDS")
        for pid, uid in agent.with_our_uids
    ]


def _is_young(pid: int, limit_s: float = START_S) -> bool:
    try:
        return proc.age_s(pid) < limit_s
    except proc.GONE:
        return False


def _locks(pid: int, due: int) -> bool:
    """Whether it comes to load its last filter, in the time that a start may take; not if it ends without."""
    while _is_young(pid, LOCK_S):
        count = _filters(pid)
        if count != due - 1:
            return count == due
        time.sleep(_AGAIN_S)
    return False


def _filters(pid: int) -> int:
    """How many system-call filters are on it; 0 when it has ended."""
    try:
        status = proc.status(f"{proc.PROC}/{pid}")
    except proc.GONE:
        return 0
    return 0 if status["State"][:1] in "ZX" else int(status.get("Seccomp_filters", "0"))
