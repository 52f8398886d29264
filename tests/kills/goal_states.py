# SPDX-License-Identifier: Apache-2.0
"""Owns the campaign over goal states: lists the gaps of undisturbed rounds, draws from them, kills, tells the outcome.

Runs in the test or as `python -m tests.kills`; some VMs at a time, each in a process of its own with its busy killer.
"""

import multiprocessing
import random
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

from tests.fabric.waiting import WaitedInVain
from tests.kills.boots import VERIFIER, WORKERS_A_JOB
from tests.kills.histogram import table
from tests.kills.killer import Gap
from tests.kills.processes import COMPANION, RESIDENTS, SPAWNER, SUPERVISOR
from tests.kills.rounds import Draw, Round, rounds
from tests.kills.wishes import WISHES

KILLS = 500
LABS = 3
# Some gaps come only when one process happens to end before another.
TRIES = 12
MOST_WRONG = 4
# What is the supervisor's own, once more at random: at later times when it comes, and with the next goal state at once.
EXTRA_SHARE = 0.25
# Kills in one round of those that are started again as a whole.
MOST_A_ROUND = {SUPERVISOR: 3, SPAWNER: 4}
SAMPLED_WORKERS = ("parser", "opener", "storage")
# A gap and what is known of it: in which wishes it comes, and how often at most.
Gaps = Mapping[Gap, Mapping[str, int]]


class Rounds(Protocol):
    """Whoever plays rounds in a VM."""

    def play(self, draw: Draw) -> Round: ...

    def end(self) -> list[str]: ...


@dataclass
class Outcome:
    """`gaps` of undisturbed rounds, `chosen` ones of them, `hits` delivered; `wrong` as it was found."""

    gaps: tuple[Gap, ...] = ()
    chosen: tuple[Gap, ...] = ()
    hits: Counter[Gap] = field(default_factory=Counter)
    rounds: int = 0
    superseded: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[Gap]:
        return [gap for gap in self.chosen if not self.hits[gap]]

    def add(self, other: "Outcome") -> None:
        """What another VM has had."""
        self.hits.update(other.hits)
        self.rounds += other.rounds
        self.superseded += other.superseded
        self.wrong += other.wrong


def told(outcome: Outcome) -> str:
    """The histogram and a line below it."""
    return "\n".join(
        [
            *table(outcome.gaps, outcome.chosen, outcome.hits),
            f"{outcome.hits.total()} kills in {outcome.rounds} rounds with a goal state each, in {outcome.superseded} "
            f"of them another one at once after the kill; {len(outcome.missed)} of {len(outcome.chosen)} gaps missed, "
            f"{len(outcome.wrong)} rounds with anything wrong",
        ]
    )


def survey(vm: Rounds, wishes: Sequence[str] = WISHES, times: int = 2) -> dict[Gap, dict[str, int]]:
    """The gaps of undisturbed rounds of every one of `wishes`. AssertionError when one of them is wrong."""
    found: dict[Gap, dict[str, int]] = {}
    for nth in range(times):
        for wish in wishes:
            # Who ends first is luck: in every other round it is the worker, in which the spawner's gaps are sure.
            draw = Draw((), (wish,), slow="worker" if nth % 2 else "supervisor")
            seen = vm.play(draw)
            if seen.wrong:
                raise AssertionError(f"undisturbed, but: {seen.wrong}")
            for gap, count in seen.seen.items():
                if times == 1 or (gap.process == SPAWNER) == (draw.slow == "worker"):
                    found.setdefault(gap, {})[wish] = count
    return found


def draws(
    gaps: Gaps, chosen: Sequence[Gap], kills: int, chance: random.Random, wishes: Sequence[str] = WISHES
) -> list[Draw]:
    """Each of `chosen` once, and at random in the supervisor until there are `kills`; in a good order."""
    own = [gap for gap in chosen if gap.process == SUPERVISOR]
    residents = []
    for process, most in MOST_A_ROUND.items():
        each = [gap for gap in chosen if gap.process == process]
        residents += _bundles(gaps, chance.sample(each, len(each)), most, wishes)
    extra = max(kills - len(chosen), int(EXTRA_SHARE * len(own)) if kills else 0)
    for gap in chance.choices(own, k=extra) if own else ():
        wish, count = chance.choice(list(gaps[gap].items()))
        residents.append(Draw(((gap, chance.randint(1, count)),), (wish,), supersede=chance.random() < 0.5))
    chance.shuffle(residents)
    bundles = _bundles(gaps, [gap for gap in chosen if gap.process == VERIFIER], WORKERS_A_JOB, wishes)
    others = [gap for gap in chosen if gap.process not in {*RESIDENTS, VERIFIER}]
    bundles += _bundles(gaps, others, WORKERS_A_JOB, wishes)
    # What starts workers waits ever longer when many die: in between it is killed itself.
    return _spread(residents, bundles)


def sample(gaps: Gaps, chance: random.Random) -> list[Draw]:
    """Some in the supervisor, with the next goal state right after, one in the spawner, one in each of some workers."""
    own, spawner = ([gap for gap in gaps if gap.process == process] for process in RESIDENTS[::-1])
    few = [*chance.sample(own, 3), chance.choice(spawner)]
    for process in SAMPLED_WORKERS:
        few.append(chance.choice([gap for gap in gaps if gap.process == process]))
    return [replace(draw, supersede=draw.process == SUPERVISOR) for draw in draws(gaps, few, 0, chance)]


def _bundles(gaps: Gaps, chosen: Iterable[Gap], most: int, wishes: Sequence[str]) -> list[Draw]:
    """Gaps that are hit in one round: all of one wish, of each kind of process at `most` so many."""
    left = list(chosen)
    found = []
    while left:
        wish = max(wishes, key=lambda wish: sum(wish in gaps[gap] for gap in left))
        each: Counter[str] = Counter()
        taken = []
        for gap in left:
            kind = gap.process.removesuffix(COMPANION)
            if wish in gaps[gap] and each[kind] < most:
                each[kind] += 1
                taken.append(gap)
        found.append(Draw(tuple((gap, 1) for gap in taken), (wish,)))
        left = [gap for gap in left if gap not in taken]
    return found


def _spread(many: list[Draw], few: list[Draw]) -> list[Draw]:
    """`few` at even distances among `many`."""
    if not many:
        return few
    places = [(place / len(many), draw) for place, draw in enumerate(many)]
    places += [((place + 0.5) / len(few), draw) for place, draw in enumerate(few)]
    return [draw for _, draw in sorted(places, key=lambda pair: pair[0])]


def fight(vm: Rounds, wanted: Iterable[Draw], say: Callable[[str], None], most_tries: int = TRIES) -> Outcome:
    """Play all of `wanted`; what was missed is tried again, until it was tried so often."""
    outcome = Outcome()
    tries: Counter[Gap] = Counter()
    left = deque(wanted)
    while left and len(outcome.wrong) < MOST_WRONG:
        draw = left.popleft()
        try:
            seen = vm.play(draw)
        except WaitedInVain as error:
            outcome.wrong.append(f"{draw}: {error}")
            break
        outcome.rounds += 1
        outcome.superseded += draw.supersede and bool(seen.hit)
        outcome.hits.update(seen.hit)
        missed = [gap for gap, _ in draw.aims if gap not in seen.hit and not outcome.hits[gap]]
        tries.update(missed)
        again = tuple((gap, 1) for gap in missed if tries[gap] < most_tries)
        if again:
            left.append(replace(draw, aims=again, supersede=False))
        if seen.wrong:
            brief = "\n".join([f"{seen.kind}, killed: {', '.join(map(str, seen.hit))}", *seen.wrong])
            outcome.wrong.append(brief)
            say(brief)
        elif outcome.rounds % 20 == 0:
            say(f"{outcome.rounds} rounds, {outcome.hits.total()} kills, {len(left)} rounds left")
    for wrong in vm.end():
        outcome.wrong.append(wrong)
        say(wrong)
    return outcome


def run(seed: int, kills: int = KILLS, texts: Sequence[str] = ()) -> Outcome:
    """Every gap once (with `texts`: those with one of them in their name), and more until it is so many kills."""
    with ProcessPoolExecutor(LABS, multiprocessing.get_context("spawn")) as pool:
        gaps = pool.submit(_survey).result()
        chosen = [gap for gap in gaps if not texts or any(text in str(gap) for text in texts)]
        outcome = Outcome(tuple(gaps), tuple(chosen))
        wanted = draws(gaps, chosen, 0 if texts else kills, random.Random(seed))
        for part in pool.map(_fight, (wanted[lab::LABS] for lab in range(LABS)), range(LABS)):
            outcome.add(part)
    return outcome


def _survey() -> dict[Gap, dict[str, int]]:
    with rounds() as vm:
        return survey(vm)


def _fight(wanted: list[Draw], lab: int) -> Outcome:
    if not wanted:
        return Outcome()
    with rounds() as vm:
        return fight(vm, wanted, lambda text: print(f"VM {lab + 1}: {text}", file=sys.stderr, flush=True))
