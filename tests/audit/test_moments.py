# SPDX-License-Identifier: Apache-2.0
"""Workers at their rarer moments: those that carry packages are as written, and one on its way to its last filter is
told from one that works without."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from supervisor.audit.findings import Report
from supervisor.audit.proc import age_s
from supervisor.audit.survey import START_S
from tests.audit.auditing import FILTERS, audit, filters, red
from tests.fabric.handler_packages import Package
from tests.fabric.handlers_vm import HandlersVm, Wish, handlers_vm
from tests.fabric.scene import AGENT, Scene, children_of
from tests.fabric.vm import Vm, booted
from tests.fabric.waiting import WaitedInVain, until

pytestmark = pytest.mark.root


@contextlib.contextmanager
def waiting(vm: HandlersVm, kind: str) -> Iterator[str]:
    """The name of a worker of that kind that has locked, and is given no work."""
    while True:
        until(f"{kind} is started", lambda: worker(vm.scene, kind), 30.0, every_s=0.0005)
        name, pid = worker(vm.scene, kind) or ("", 0)
        spawner = parent_of(pid)
        if not spawner:
            continue
        supervisor = next(each for each in children_of(spawner) if b"supervisor.main" in words(each))
        os.kill(supervisor, signal.SIGSTOP)
        try:
            with contextlib.suppress(WaitedInVain):
                until("it waits", partial(waits, pid, filters(spawner) + 2), 5.0)
                yield name
                return
        finally:
            os.kill(supervisor, signal.SIGCONT)


def worker(scene: Scene, kind: str) -> tuple[str, int] | None:
    """Name and process of one."""
    found = ((name, pids[0]) for name, pids in scene.workers().items() if pids and name.startswith(f"{kind}."))
    return next(found, None)


def waits(pid: int, due: int) -> bool:
    """Whether it sleeps, with so many filters on it."""
    return filters(pid) == due and state(pid) == "S"


def parent_of(pid: int) -> int:
    """0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def state(pid: int) -> str:
    """As the kernel abbreviates it; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def words(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_whoever_brings_a_package_and_lays_it_down_is_as_written() -> None:
    with handlers_vm() as vm:
        for number, kind in enumerate(("storage", "handler-files")):
            vm.publish(Wish(Package(f"Test.P{number}")))
            with waiting(vm, kind) as name:
                report = audit(vm.lab, "--deep")[1]
            assert red(report) == {}
            (subject,) = (each for each in report.subjects if each.name == name)
            assert {check.name: check.verdict for check in subject.checks}["landlock"] == "ok"


@contextlib.contextmanager
def halted(vm: Vm) -> Iterator[int]:
    """A worker that is stopped on its way to its last filter, longer than a start takes."""
    pid = 0
    while not pid:
        until("one is started", lambda: worker(vm.scene, "vault"), 30.0, every_s=0.0005)
        _, found = worker(vm.scene, "vault") or ("", 0)
        if not found:
            continue
        with contextlib.suppress(WaitedInVain, ProcessLookupError):
            until("its first filter", partial(has, found, FILTERS - 1), 1.0, every_s=0.0005)
            os.kill(found, signal.SIGSTOP)
            pid = found if filters(found) == FILTERS - 1 else 0
            if not pid:
                os.kill(found, signal.SIGCONT)
    try:
        until("it is no young one", lambda: age_s(pid) > START_S, 10.0)
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def has(pid: int, count: int) -> bool:
    return filters(pid) == count


def reds_once(vm: Vm, pid: int, what: signal.Signals) -> "dict[str, list[str]]":
    """What an audit finds that has looked at it before it got that signal, and waits for it."""
    process = vm.lab.popen([str(AGENT), "audit", "--json"], stdout=subprocess.PIPE)
    until("it waits", lambda: any(sleeps(each) for each in (process.pid, *children_of(process.pid))), 30.0)
    os.kill(pid, what)
    told, _ = process.communicate(timeout=60)
    return red(msgspec.json.decode(told, type=Report, strict=True))


def sleeps(pid: int) -> bool:
    """Whether it does so for a time of its choice."""
    try:
        return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(("then", "is_red"), [(signal.SIGCONT, False), (signal.SIGKILL, True)])
def test_one_that_has_yet_to_lock_is_waited_for_and_one_that_never_does_is_red(
    then: signal.Signals, *, is_red: bool
) -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        with halted(vm) as pid:
            assert ("vault.0: seccomp" in reds_once(vm, pid, then)) == is_red
