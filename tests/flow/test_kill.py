# SPDX-License-Identifier: Apache-2.0
"""kill -9 of each process while it lives: the VM ends as if nobody had been killed, and nothing is left behind."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fabric.demo_kills import Unit
from tests.fabric.overlay import Change
from tests.fabric.scene import kill_process, spawner_pid, supervisor_pid
from tests.fabric.vm import PS_WITHIN_S, QUICK, Ahead, Vm, booted
from tests.fabric.waiting import until
from tests.kills.end_state import OF_A_MOMENT

pytestmark = pytest.mark.root

READY_WITHIN_S = 20.0
COMMITTERS = ("hostname", "account", "password", "sudoers", "sshd", "home-keys", "root-lock", "host-keys")
WORKERS = ("parser", "provisioning", "vault", "verifier", *COMMITTERS)
# A resident process, killed while that kind of worker is at work.
MOMENTS = ("parser", "account", "host-keys")
RESIDENTS = tuple(f"{who} during {moment}" for who in ("supervisor", "spawner") for moment in MOMENTS)
TOGETHER = ("every committer once",)
SLOWEST_DEADLINE_S = 5.0


def workers_of(vm: Vm, kind: str) -> list[int]:
    """The workers of that kind that live now, as the host numbers them."""
    return [pids[0] for name, pids in vm.scene.workers().items() if pids and name.startswith(f"{kind}.")]


def one_of(vm: Vm, kind: str) -> int:
    """A worker of that kind, as soon as there is one."""
    return until(f"{kind} at work", lambda: workers_of(vm, kind), every_s=0.0005)[0]


def hit_one(vm: Vm, kind: str) -> None:
    """kill -9 of a worker of that kind, as soon as there is one."""
    until(f"{kind} was hit", lambda: any(map(kill_process, workers_of(vm, kind))), every_s=0.0005)


def strike(vm: Vm, unit: Unit, case: str) -> None:
    """Kill what `case` names, at its moment."""
    if case in TOGETHER:
        for kind in COMMITTERS:
            if kind != "host-keys":  # made beside the others, at any time
                hit_one(vm, kind)
        return
    who, _, moment = case.partition(" during ")
    if not moment:
        hit_one(vm, who)
        return
    supervisor = supervisor_pid(unit.agent)
    spawner = spawner_pid(unit.agent)
    one_of(vm, moment)
    assert kill_process(spawner if who == "spawner" else supervisor)


def is_kept(vm: Vm, incarnation: int) -> bool:
    """Whether the history has all of that goal state: the last that is done about it."""
    file = f"/var/lib/waagent/history/*__{incarnation}/Certificates.json"
    return vm.lab.run(["sh", "-c", f"ls {file}"]).returncode == 0


def end_of(vm: Vm, case: str) -> list[Change]:
    """What a first boot leaves, `case` killed in it ("" for nobody)."""
    vm.scene.insert(vm.wanted.medium())
    unit = Unit(vm.scene)
    vm.agents.append(unit.agent)
    try:
        if case:
            strike(vm, unit, case)
        until("Ready", lambda: unit.keep_running() and vm.scene.is_settled(), READY_WITHIN_S)
        assert unit.starts == (2 if case.startswith("spawner") else 1)
        assert vm.mistakes() == []
        assert (vm.readies(), vm.refused()) == (1, [])
        until("the goal state kept", lambda: is_kept(vm, 1), READY_WITHIN_S)
        until(f"no worker is left: {vm.scene.workers()}", lambda: not vm.scene.workers())
        assert vm.ps().overview.phase == "steady"
    finally:
        unit.stop()
    assert vm.left_over() == []
    return [each for each in vm.lab.changed() if not OF_A_MOMENT.match(each.path)]


@pytest.fixture(scope="module")
def undisturbed() -> list[Change]:
    with booted(config=QUICK) as vm:
        return end_of(vm, "")


@pytest.fixture(scope="module")
def games(undisturbed: list[Change]) -> Iterator[Ahead[str]]:
    def play(case: str) -> None:
        with booted(config=QUICK) as vm:
            assert end_of(vm, case) == undisturbed

    ahead = Ahead((*WORKERS, *RESIDENTS, *TOGETHER), play)
    yield ahead
    ahead.close()


@pytest.mark.parametrize("case", [*WORKERS, *RESIDENTS, *TOGETHER])
def test_whoever_is_killed_the_end_is_the_same(games: Ahead[str], case: str) -> None:
    games.check(case)


def test_a_hung_worker_is_killed_after_its_deadline() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        # The worker that it is to look at is held, so that the verifier is there, ready and idle.
        looked_at = one_of(vm, "hostname")
        os.kill(looked_at, signal.SIGSTOP)
        # Another worker's, which was begun beside it, may just be ending.
        verifier = until("one that waits for its request", lambda: next(_waiting(vm), 0), every_s=0.0005)
        os.kill(verifier, signal.SIGSTOP)
        os.kill(looked_at, signal.SIGCONT)
        until("its end", lambda: not _filters(verifier), SLOWEST_DEADLINE_S + 3)
        said = [line for line in vm.scene.log().splitlines() if "verifier" in line and "killed" in line]
        assert said, "no line about it"
        assert "5 s" in said[0]
        assert vm.wait_until_decided(READY_WITHIN_S)
        until("no worker is left", lambda: not vm.scene.workers())
        assert vm.ps().processes[:2]
        assert vm.slowest_ps_s < PS_WITHIN_S


def _waiting(vm: Vm) -> Iterator[int]:
    """The verifiers that wait for their request."""
    return (pid for pid in workers_of(vm, "verifier") if _filters(pid) == 3 and _sleeps(pid))


def _filters(pid: int) -> int:
    """How many system-call filters are in force on it; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("Seccomp_filters")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _sleeps(pid: int) -> bool:
    """Whether it waits for something: with its final filter on, for nothing but its request."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    except (FileNotFoundError, ProcessLookupError):
        return False
