# SPDX-License-Identifier: Apache-2.0
"""Owns a whole run: lists the gaps of undisturbed boots, chooses some or all, kills in each, some boots at a time.

Runs in the test or as `python -m tests.kills`; each boot is in a process of its own, because each has a busy killer.
"""

import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

from tests.kills.boots import MODES, WORKERS, Boot, Mode, boot
from tests.kills.end_state import EndState
from tests.kills.killer import Gap
from tests.kills.processes import SPAWNER

# A gap that did not come although it was waited for this often is missed.
TRIES = 4
# A product that ends wrongly this often is not worth more of the machine's time.
MOST_WRONG = 12
BY_NAME = {mode.name: mode for mode in MODES}


def boots_at_a_time() -> int:
    """Most of a boot is waiting for its processes in turn."""
    return min(4, (os.cpu_count() or 1) + 1)


@dataclass
class Outcome:
    """`gaps` of undisturbed boots, `chosen` ones of them, `hits` delivered; `wrong`: how each bad boot ended."""

    gaps: tuple[Gap, ...]
    chosen: tuple[Gap, ...]
    hits: Counter[Gap] = field(default_factory=Counter)
    boots: int = 0
    repeated_readies: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[Gap]:
        return [gap for gap in self.chosen if not self.hits[gap]]


Choice = Callable[[tuple[Gap, ...]], Iterable[Gap]]


def everything(gaps: tuple[Gap, ...]) -> Iterable[Gap]:
    """Each gap."""
    return gaps


def sample(seed: int, boots: int) -> Choice:
    """As many gaps as about `boots` boots of each mode take: of every kind of process, of every class of effect."""

    def chosen(gaps: tuple[Gap, ...]) -> Iterable[Gap]:
        chance = random.Random(seed)
        for process in dict.fromkeys(gap.process for gap in gaps):
            mode = _mode_of(process)
            shuffled = chance.sample(own := [gap for gap in gaps if gap.process == process], len(own))
            nth: Counter[str] = Counter()
            ranked = []
            for gap in shuffled:
                ranked.append((nth[gap.kind], gap))
                nth[gap.kind] += 1
            yield from (gap for _, gap in sorted(ranked, key=lambda pair: pair[0])[: boots * mode.each])

    return chosen


def run(choice: Choice, say: Callable[[str], None], tries: int = TRIES) -> Outcome:
    """List, choose, kill; a gap that has not come in `tries` boots is missed. `say` hears of each boot."""
    with ProcessPoolExecutor(boots_at_a_time(), multiprocessing.get_context("spawn")) as pool:
        surveys = [pool.submit(_boot, frozenset[Gap](), name) for name in (WORKERS, SPAWNER)]
        first, second = (survey.result() for survey in surveys)
        if first.wrong or second.wrong or first.end is None or second.end is None:
            raise AssertionError(f"undisturbed, but: {first.wrong or second.wrong}\n{first.log or second.log}")
        # Each in the boot in which its place is sure to come (Mode.slow).
        spawners = [gap for gap in second.seen if gap.process == SPAWNER]
        gaps = (*(gap for gap in first.seen if gap.process != SPAWNER), *spawners)
        outcome = Outcome(gaps, tuple(choice(gaps)))
        _Campaign(outcome, (first.end, second.end), say, tries).fight(pool)
    return outcome


class _Campaign:
    """Who is still to be killed where."""

    def __init__(
        self, outcome: Outcome, undisturbed: tuple[EndState, EndState], say: Callable[[str], None], tries: int
    ) -> None:
        self._outcome = outcome
        self._most_tries = tries
        self._undisturbed = undisturbed
        self._say = say
        self._tries: Counter[Gap] = Counter()
        self._left = dict.fromkeys(outcome.chosen)

    def fight(self, pool: ProcessPoolExecutor) -> None:
        """Until nothing is left, nothing more comes, or too much is wrong."""
        under_way: dict[Future[Boot], tuple[Mode, frozenset[Gap]]] = {}
        while True:
            while len(under_way) < boots_at_a_time() and (task := self._next()):
                mode, gaps = task
                under_way[pool.submit(_boot, gaps, mode.name, self._undisturbed)] = task
            if not under_way:
                return
            for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                self._take(done.result(), *under_way.pop(done))

    def _next(self) -> tuple[Mode, frozenset[Gap]] | None:
        """As many gaps as one boot can bear, of the mode that needs most boots."""
        if len(self._outcome.wrong) >= MOST_WRONG:
            return None
        left: dict[str, list[Gap]] = {}
        for gap in self._left:
            left.setdefault(_mode_of(gap.process).name, []).append(gap)
        if not left:
            return None
        mode = BY_NAME[max(left, key=lambda name: _boots_needed(BY_NAME[name], left[name]))]
        each: Counter[str] = Counter()
        taken = []
        for gap in left[mode.name]:
            if each[gap.process] < mode.each:
                each[gap.process] += 1
                taken.append(gap)
                del self._left[gap]
        return mode, frozenset(taken)

    def _take(self, done: Boot, mode: Mode, wanted: frozenset[Gap]) -> None:
        outcome = self._outcome
        outcome.boots += 1
        outcome.repeated_readies += max(0, done.readies - 1)
        hit = [kill.gap for kill in done.kills]
        outcome.hits.update(hit)
        progressed = {gap.process for gap in hit}
        for gap in sorted(wanted.difference(hit)):
            # A kill may well keep the later ones of the same process from coming: that is no try of theirs.
            self._tries[gap] += gap.process not in progressed
            if self._tries[gap] < self._most_tries:
                self._left[gap] = None
        self._say(
            f"boot {outcome.boots}: {len(hit)} kills ({mode.name}), the unit started {done.starts} times; "
            f"{len(self._left)} gaps left{'; WRONG' if done.wrong else ''}"
        )
        if done.wrong:
            brief = "\n".join([*(f"  {text}" for text in done.wrong), *(f"  killed: {gap}" for gap in hit)])
            self._say(brief)
            outcome.wrong.append(f"{brief}\n{done.log}")


def _boot(wanted: frozenset[Gap], mode: str, undisturbed: tuple[EndState, EndState] | None = None) -> Boot:
    return boot(wanted, BY_NAME[mode], undisturbed)


def _mode_of(process: str) -> Mode:
    return next(mode for mode in MODES if mode.victims(process))


def _boots_needed(mode: Mode, gaps: list[Gap]) -> float:
    return max(Counter(gap.process for gap in gaps).values()) / mode.each
