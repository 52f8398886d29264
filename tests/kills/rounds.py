# SPDX-License-Identifier: Apache-2.0
"""Owns one VM that gets one goal state after another, with kills in each, and the judgement over each and over all.

Runs in a process of its own, a lab for each; it plays the service manager, which starts the agent again when it ends.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from supervisor.cli.client import ask
from supervisor.layout import Layout
from supervisor.verbs import PS
from tests.fabric.demo_kills import Unit
from tests.fabric.lab import Lab
from tests.fabric.scene import AGENT, Wanted, image_files
from tests.fabric.surroundings import Surroundings
from tests.fabric.vm import QUICK
from tests.fabric.waiting import WaitedInVain, until
from tests.kills.killer import Gap, Killer, Slow, killing
from tests.kills.on_record import Told, accepted_events, audit_mistakes, journal_mistakes, kept_events
from tests.kills.processes import RESIDENTS, SPAWNER, SUPERVISOR
from tests.kills.traced import TracedScene
from tests.kills.wishes import ARRIVAL, DEPARTURE, PLAIN, STORED, Wished, lacking, leave_event, wish

CONFIG = QUICK + b"Extensions.GoalStatePeriod=1\nDebug.EtpCollectionPeriod=2\n"
SETTLED_WITHIN_S, TELEMETRY_WITHIN_S = 40.0, 60.0
# Events are gathered for five seconds, and sent; after that a round has nothing more to show.
LASTS_S = 9.0
LOOK_S = 0.05
# Of the agent's log, where something is wrong.
LOG_SHOWN = 6000
# Deaths in a row make the spawner wait longer and longer, and end.
DEATHS_A_START = 5


@dataclass(frozen=True)
class Draw:
    """Where to kill in one round: for each gap, the how manieth time that it comes; `kinds`: wishes in which all of
    them come. `supersede`: the host publishes the next one as soon as the kill was delivered; `slow` as the killer
    takes it, empty for what suits the gaps."""

    aims: tuple[tuple[Gap, int], ...]
    kinds: tuple[str, ...]
    supersede: bool = False
    slow: Slow | Literal[""] = ""

    @property
    def process(self) -> str:
        return self.aims[0][0].process if self.aims else ""

    @property
    def who_is_slow(self) -> Slow:
        """As boots.MODES has it."""
        return self.slow or ("worker" if self.process == SPAWNER else "supervisor")


@dataclass(frozen=True)
class Round:
    """What came of one: `seen` gaps and how often each came, gaps `hit`, and what is `wrong`."""

    kind: str
    seen: Mapping[Gap, int]
    hit: tuple[Gap, ...]
    wrong: tuple[str, ...] = ()


@dataclass
class Deaths:
    """How many of the supervisor's there were since the last fresh start, and rounds with workers killed since its last
    one."""

    supervisor: int = 0
    worker_rounds: int = 0

    def count(self, hit: Sequence[Gap]) -> None:
        """What one round has killed."""
        processes = {gap.process for gap in hit}
        killed = sum(gap.process == SUPERVISOR for gap in hit)
        self.supervisor = 0 if SPAWNER in processes else self.supervisor + killed
        self.worker_rounds = 0 if processes & {*RESIDENTS} else self.worker_rounds + bool(processes)

    def are_too_many(self, draw: Draw) -> bool:
        """Whether those who start what has died would wait for long after this draw's."""
        if draw.process == SUPERVISOR:
            return self.supervisor + len(draw.aims) > DEATHS_A_START
        return draw.process not in {SPAWNER, ""} and self.worker_rounds > 0


@dataclass
class Aim:
    """Says yes to each gap once, when it comes for the wanted time; looks at what is `kept` just before."""

    wanted: Mapping[Gap, int]
    keep: Callable[[], None]
    hit: list[Gap] = field(default_factory=list)
    _came: Counter[Gap] = field(default_factory=Counter)

    def __call__(self, gap: Gap) -> bool:
        if gap not in self.wanted or gap in self.hit:
            return False
        self._came[gap] += 1
        if self._came[gap] < self.wanted[gap]:
            return False
        self.keep()
        self.hit.append(gap)
        return True

    @property
    def is_done(self) -> bool:
        return len(self.hit) == len(self.wanted)


class Rounds:
    """The VM, provisioned, its first goal state in force."""

    def __init__(self, scene: TracedScene, unit: Unit, killer: Killer, lasts_s: float) -> None:
        self.numbers = 0
        self._lasts_s = lasts_s
        self._scene = scene
        self._unit = unit
        self._killer = killer
        self._has_account = False
        self._deaths = Deaths()
        self._kept: set[Told] = set()
        self._left: list[str] = []

    def play(self, draw: Draw) -> Round:
        """One round, and what was wrong in it."""
        if self._deaths.are_too_many(draw):
            self._start_afresh()
        kind = self._kind(draw)
        until("an agent that answers", self._answers, SETTLED_WITHIN_S)
        aim = Aim(dict(draw.aims), self._look_at_events)
        self._killer.begin(aim, draw.who_is_slow)
        at = len(self._scene.records()), len(self._scene.log())
        wrong: list[str] = []
        try:
            wished = self._wish(kind)
            self._until_hit_or_over(aim, wished)
            if aim.hit and draw.supersede:
                wished = self._wish(kind)
            self._until_settled(wished)
        except WaitedInVain as error:
            wrong.append(str(error))
        finally:
            self._killer.disarm()
        if kind == STORED:
            self._scene.steer("clear")
        wrong += journal_mistakes(self._scene.lab.path(Layout().journal).read_bytes()) + audit_mistakes(self._scene)
        wrong += [f"refused: {each}" for each in self._refused(at[0])]
        if wrong:
            wrong.append(self._scene.log()[at[1] :])
        self._deaths.count(aim.hit)
        return Round(kind, dict(self._killer.seen), tuple(aim.hit), tuple(wrong))

    def play_quietly(self, kind: str) -> None:
        """A round of that kind, and nobody is killed. WaitedInVain."""
        self._killer.disarm()
        self._until_settled(self._wish(kind))

    def end(self) -> list[str]:
        """What is wrong with all of it: events that never came, a broken audit log, files left half written."""
        wrong = []
        try:
            self.play_quietly(PLAIN)
            until("events", lambda: self._unit.keep_running() and not self._missing(), TELEMETRY_WITHIN_S, 0.5)
        except WaitedInVain as error:
            wrong.append(f"{error}; events that the host never got: {self._missing()[:10]}")
        verdict = self._scene.lab.run([str(AGENT), "log", "verify"])
        if verdict.returncode:
            wrong.append(f"the audit log is not as it was written: {verdict.stdout}{verdict.stderr}")
        halves = self._scene.lab.run(
            ["find", Layout().state, Layout().lib, "-name", ".*", "-o", "-name", "*.new"]
        ).stdout
        if halves:
            wrong.append(f"files left half written: {halves.split()}")
        return wrong

    def _kind(self, draw: Draw) -> str:
        """A wish of the draw's that can be made now; an account comes or goes first where there is none."""
        impossible = ARRIVAL if self._has_account else DEPARTURE
        possible = [kind for kind in draw.kinds if kind != impossible]
        if not possible:
            self.play_quietly(DEPARTURE if self._has_account else ARRIVAL)
            possible = list(draw.kinds)
        return possible[self.numbers % len(possible)]

    def _wish(self, kind: str) -> Wished:
        self.numbers += 1
        text = f"told in round {self.numbers}"
        leave_event(self._scene, self.numbers, text)
        self._left.append(text)
        wished = wish(self._scene, kind, self.numbers, has_account=self._has_account)
        self._has_account = wished.has_account
        return wished

    def _until_hit_or_over(self, aim: Aim, wished: Wished) -> None:
        """Until it was killed everywhere, or all has happened that will."""
        deadline = time.monotonic() + self._lasts_s

        def is_over() -> bool:
            self._check()
            is_running = self._unit.keep_running()
            if aim.wanted and aim.is_done:
                return True
            return time.monotonic() > deadline and is_running and not lacking(self._scene, wished)

        try:
            until("the end of a round", is_over, self._lasts_s + SETTLED_WITHIN_S, LOOK_S)
        except WaitedInVain as error:
            raise WaitedInVain(f"{error}; {lacking(self._scene, wished)}") from None

    def _until_settled(self, wished: Wished) -> None:
        def is_settled() -> bool:
            self._check()
            return self._unit.keep_running() and not lacking(self._scene, wished)

        try:
            until(wished.id, is_settled, SETTLED_WITHIN_S, LOOK_S)
        except WaitedInVain as error:
            raise WaitedInVain(f"{error}; {lacking(self._scene, wished)}\n{self._scene.log()[-LOG_SHOWN:]}") from None

    def _check(self) -> None:
        if self._killer.trouble is not None:
            raise self._killer.trouble

    def _look_at_events(self) -> None:
        """What is kept for the host may not be lost by what comes now. Called while the agent waits."""
        self._kept.update(kept_events(self._scene))

    def _missing(self) -> list[object]:
        accepted = accepted_events(self._scene.records())
        texts = {text for _, _, text in accepted}
        return [*(text for text in self._left if text not in texts), *sorted(self._kept - accepted.keys())]

    def _refused(self, since: int) -> list[object]:
        """Requests that were wrong; nobody knows of a goal state before it asked, nor of another life's calls."""
        refused = [each for each in self._scene.records()[since:] if each["verdict"] == "refused"]
        return [(each["target"], each["why"]) for each in refused if each["status"] not in {410, 429}]

    def _start_afresh(self) -> None:
        self._killer.disarm()
        self._unit.stop()
        self._deaths = Deaths()

    def _answers(self) -> bool:
        self._check()
        if not self._unit.keep_running():
            return False
        try:
            return bool(ask(str(self._scene.lab.path(Layout().control_socket)), PS).data)
        except OSError:
            return False


@contextmanager
def rounds(lasts_s: float = LASTS_S) -> Iterator[Rounds]:
    """A VM, provisioned and without any account of the platform's; traced from its first start on. A round in
    which not everybody is killed who should be is over after `lasts_s`."""
    around = Surroundings.make()
    with killing(lambda gap: False, "supervisor") as killer, Lab(image_files(CONFIG) | around.files()) as lab:
        killer.disarm()
        scene = TracedScene(lab, killer=killer)
        around.start_host(scene, more=("--certificates=rsa",))
        scene.insert(Wanted(custom_data=None).medium())
        unit = Unit(scene)
        try:
            until("Ready", lambda: unit.keep_running() and scene.is_settled() and scene.is_fresh(), SETTLED_WITHIN_S)
            made = Rounds(scene, unit, killer, lasts_s)
            made.play_quietly(PLAIN)  # what belongs to the start is over
            yield made
        finally:
            killer.disarm()
            unit.stop()
