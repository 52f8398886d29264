# SPDX-License-Identifier: Apache-2.0
"""Owns asking for an audit in a lab and reading its answer; and holding a worker still for as long as a test needs it.

Runs in the tests, outside the lab.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from supervisor.audit.findings import Report
from tests.fabric.lab import PROJECT, Lab
from tests.fabric.scene import AGENT
from tests.fabric.vm import Vm
from tests.fabric.waiting import WaitedInVain, until

# The spawner's own, and the two of a worker that waits for its work.
FILTERS = 3
_CLONE = (PROJECT / "policy/profile.py").stat()
CLONE_IS_ROOTS = _CLONE.st_uid == 0 and not _CLONE.st_mode & 0o022


def audit(lab: Lab, *options: str) -> tuple[int, Report]:
    """Exit status and report."""
    done = lab.run([str(AGENT), "audit", "--json", *options])
    assert done.stdout, done.stderr
    report = msgspec.json.decode(done.stdout, type=Report, strict=True)
    return (done.returncode, report) if CLONE_IS_ROOTS else _as_if_roots(report)


def _as_if_roots(report: Report) -> tuple[int, Report]:
    """In a clone that others may write the installation is red, and rightly so: no test is about that."""
    machine, *rest = report.subjects
    checks = tuple(
        msgspec.structs.replace(one, verdict="ok", findings=()) if one.name == "installation" else one
        for one in machine.checks
    )
    report = msgspec.structs.replace(report, subjects=(msgspec.structs.replace(machine, checks=checks), *rest))
    return int(report.count("red") + report.count("absent") > 0), report


def red(report: Report) -> dict[str, list[str]]:
    """What is red, as "subject: check", with each finding's words."""
    return {
        f"{subject.name}: {check.name}": [f"{one.found} / {one.written} / {one.where}" for one in check.findings]
        for subject in report.subjects
        for check in subject.red
    }


def green(lab: Lab, *options: str) -> Report:
    """The report of an audit that has to find nothing."""
    status, report = audit(lab, *options)
    assert red(report) == {}
    assert status == 0, report
    return report


def filters(pid: int) -> int:
    """How many system-call filters are in force on it; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Seccomp_filters")), 0)


@contextlib.contextmanager
def held(vm: Vm, kind: str) -> Iterator[int]:
    """A worker of that kind that waits for its work, as the host numbers it: the supervisor, who would give it some, is
    stopped for as long. The agent has to be at work, or about to be."""
    _, supervisor = vm.residents()
    pid = 0
    while not pid:
        # One that had its work already is soon gone: then the next.
        found = until(f"{kind} is started", lambda: _worker(vm, kind), every_s=0.0005)
        try:
            os.kill(supervisor, signal.SIGSTOP)
        except ProcessLookupError:
            # It has provisioned, and made room for a fresh one.
            _, supervisor = vm.residents()
            continue
        pid = found if _waits(found) else 0
        if not pid:
            os.kill(supervisor, signal.SIGCONT)
    try:
        yield pid
    finally:
        os.kill(supervisor, signal.SIGCONT)


def _waits(pid: int) -> bool:
    """Whether it comes to wait, confined for good."""
    try:
        return until("it waits", lambda: filters(pid) == FILTERS and _sleeps(pid), 1.0)
    except (WaitedInVain, FileNotFoundError, ProcessLookupError):
        return False


def _worker(vm: Vm, kind: str) -> int:
    workers = vm.scene.workers()
    return next((pids[0] for name, pids in workers.items() if pids and name.rpartition(".")[0] == kind), 0)


def _sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def command(*words: str) -> str:
    """What a program of the host prints; it has to succeed."""
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=20).stdout
