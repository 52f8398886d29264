# SPDX-License-Identifier: Apache-2.0
"""Owns the bad inputs as data: what each is, what must be said of it, and how the agent is judged that met it.

Runs in tests and, as `python -m tests.fabric.bad_input [--write FILE]`, as the maker of the table of what was reported
and what was left on disk. Each case meets the real agent, in a lab.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fabric.vm import Vm
from tests.fabric.waiting import until

AT_A_TIME = 4
FAILED = "NotReady ProvisioningFailed "
NOTHING = "nothing"
# Longer than anything that goes on in steps, a look for the medium above all; and what waiting may cost meanwhile.
QUIET_S = 2.0
IDLE_CPU_S = 0.1
PROVISIONED = "provisioned"


@dataclass(frozen=True)
class Case:
    """One bad input. `words` must stand in what is reported, or, where it passes (`ready`), in what `ps` said before.

    `left` are the paths, or what they begin with, that it may leave changed in the system before it is mended."""

    group: str
    name: str
    words: tuple[str, ...] = ()
    ready: bool = False
    left: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Row:
    """What came of a case: what host, `ps` and log were told, what was left on disk, and what the next start made."""

    case: Case
    reported: str
    left: str
    afterwards: str = ""


@dataclass(frozen=True)
class Play:
    """Cases that one lab meets, one after the other; `run` checks each and yields its row."""

    cases: tuple[Case, ...]
    run: Callable[[tuple[Case, ...]], Iterator[Row]]


class Played:
    """Runs plays, some at a time: most of one is waiting."""

    def __init__(self, plays: Iterable[Play], at_a_time: int = AT_A_TIME) -> None:
        self._pool = ThreadPoolExecutor(at_a_time)
        self._rows: dict[Case, Row] = {}
        self._games: dict[Case, Future[None]] = {}
        for play in plays:
            game = self._pool.submit(self._run, play)
            self._games |= dict.fromkeys(play.cases, game)

    def row(self, case: Case) -> Row:
        """What came of `case`; raises what its play raised unless the case came to its end before."""
        error = self._games[case].exception()
        if error is not None and case not in self._rows:
            raise error
        return self._rows[case]

    def rows(self) -> list[Row]:
        """All of them, in the order of the plays."""
        return [self.row(case) for case in self._games]

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _run(self, play: Play) -> None:
        for row in play.run(play.cases):
            self._rows[row.case] = row


def meet(vm: Vm, case: Case, medium: bytes | None, *, within_s: float = 15.0) -> Row:
    """Boot with `medium`, which must fail: one clear report, the same story in `ps` and log, processes as they were."""
    before, told = set(vm.applied()), len(failures(vm))
    vm.boot(medium)
    residents = vm.residents()
    until(f"the report of {case}", lambda: vm.ps_or_none() and len(failures(vm)) > told, within_s, every_s=0.05)
    reported = failures(vm)[-1]
    assert [word for word in case.words if word not in reported] == [], reported
    story = vm.story()
    assert story.startswith("failed: ")
    assert story.removeprefix("failed: ") in reported
    assert f"failed: {reported}" in vm.scene.log()
    assert vm.ps().overview.counters.violations == 0
    changed = [path for path in vm.applied() if path not in before]
    assert [path for path in changed if not path.startswith(case.left or "/dev/null")] == []
    assert (vm.residents(), vm.agent.poll()) == (residents, None)
    assert (vm.readies(), vm.refused()) == (0, [])
    return Row(case, reported, brief(changed) or NOTHING)


def brief(paths: list[str]) -> str:
    """The paths without what lies below another of them, and without the copies that account tools keep (`passwd-`)."""
    kept = [path for path in paths if not path.endswith("-")]
    return ", ".join(path for path in kept if not any(path.startswith(f"{other}/") for other in kept))


def failures(vm: Vm) -> list[str]:
    """The reasons of the failed provisionings that the host was told of."""
    briefs = [report.brief for report in vm.scene.reports()]
    return [brief.removeprefix(FAILED) for brief in briefs if brief.startswith(FAILED)]


def stop(vm: Vm) -> None:
    """End the agent, as the service manager does; nothing of it stays."""
    assert vm.scene.stop_agent(vm.agent) == 0
    assert vm.scene.workers() == {}


def provisioned(vm: Vm, within_s: float = 20.0, *, start_heard: bool = True) -> str:
    """Ready, once, and everything as the tenant asked. Unless `start_heard`, the first report may have been in vain."""
    vm.scene.wait_until_ready(within_s)
    mistakes = [mistake for mistake in vm.mistakes() if start_heard or not mistake.startswith("reports:")]
    assert (mistakes, vm.readies(), vm.refused()) == ([], 1, [])
    return PROVISIONED


def pass_time(vm: Vm, seconds: float = QUIET_S) -> float:
    """Let that much pass by the agent's own clock; what its two residents used of the processors meanwhile, seconds."""
    residents, began = vm.residents(), vm.ps().overview.uptime_s
    before = _cpu_s(residents)
    until(f"{seconds:g} s", lambda: vm.ps().overview.uptime_s > began + seconds, seconds + 10, every_s=0.5)
    return _cpu_s(residents) - before


def _cpu_s(pids: Iterable[int]) -> float:
    stats = [Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    from tests.fabric.bad_input_table import main

    main()
