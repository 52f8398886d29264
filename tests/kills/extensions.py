# SPDX-License-Identifier: Apache-2.0
"""Owns one VM whose handlers are installed, upgraded and given settings in rounds, with kills in each, and what is said
of each by the handlers' own judges: every command once at most, none forgotten, what was lost told as failed.

Runs in a process of its own; it plays the service manager of the agent. The handlers' commands are systemd's.
"""

import contextlib
import multiprocessing
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from tests.fabric.demo_kills import Unit
from tests.fabric.handler_packages import Package
from tests.fabric.handlers_vm import CONFIG, HandlersVm, Wish
from tests.fabric.scene import AGENT, Wanted, image_files, kill_process
from tests.fabric.surroundings import Surroundings
from tests.fabric.systemd_lab import SystemdLab
from tests.fabric.waiting import WaitedInVain, until
from tests.kills.goal_states import LABS, Gaps, Outcome, draws, fight, survey
from tests.kills.killer import Gap, Killer, killing
from tests.kills.on_record import journal_mistakes
from tests.kills.processes import SUPERVISOR
from tests.kills.rounds import Aim, Deaths, Draw, Round
from tests.kills.traced import TracedScene
from tests.kills.wardens import wardens

# All handlers are new; or one of them gets a newer version, and the others other settings.
FRESH, CHANGE = KINDS = ("fresh", "change")
UPGRADED, SETTLED, LAST = NAMES = ("Kill.Upgraded", "Kill.Settled", "Kill.Last")
VERBS = ("install", "enable", "update", "disable", "uninstall")
# A round has a dozen commands, and everything that the agent does is asked about first.
SETTLED_WITHIN_S = 120.0
LOG_SHOWN = 6000
Judged = tuple[str, str]


class ExtensionRounds:
    """The VM, provisioned. `is_thorough`: at the end it waits until systemd has forgotten every command, for which the
    agent takes its time."""

    def __init__(self, vm: HandlersVm, unit: Unit, killer: Killer, *, is_thorough: bool) -> None:
        self._is_thorough = is_thorough
        self._vm = vm
        self._unit = unit
        self._killer = killer
        self._number = 0
        self._is_fresh = True
        self._deaths = Deaths()

    def play(self, draw: Draw) -> Round:
        """One round, and what was wrong in it."""
        if self._deaths.are_too_many(draw):
            self._killer.disarm()
            self._unit.stop()
            self._deaths = Deaths()
        kind = draw.kinds[self._number % len(draw.kinds)]
        self._make_ready(kind)
        aim = Aim(dict(draw.aims), lambda: None)
        self._killer.begin(aim, draw.who_is_slow)
        wrong = self._round(lambda: None)
        self._deaths.count(aim.hit)
        return Round(kind, dict(self._killer.seen), tuple(aim.hit), tuple(wrong))

    def lose(self, verb: str) -> list[str]:
        """A round in which the warden of that command dies, and its outcome with it; what was wrong."""
        self._make_ready(FRESH if verb in {"install", "enable"} else CHANGE)
        wrong = self._round(lambda: self._kill_warden(verb), lost=verb)
        self._clear()
        return wrong

    def end(self) -> list[str]:
        """What is wrong with all of it."""
        wrong = journal_mistakes(self._vm.lab.path("/var/lib/agent-supervisor/journal").read_bytes())
        verdict = self._vm.lab.run([str(AGENT), "log", "verify"])
        if verdict.returncode:
            wrong.append(f"the audit log is not as it was written: {verdict.stdout}{verdict.stderr}")
        self._clear()
        try:
            until("no units left", lambda: not (self._is_thorough and self._units()), SETTLED_WITHIN_S)
        except WaitedInVain as error:
            wrong.append(f"{error}: {self._units()}")
        return wrong

    def _units(self) -> str:
        """Of commands that systemd still knows."""
        listed = ("--all", "--plain", "--no-legend", "agent-supervisor-handler-*")
        return self._vm.lab.systemctl("list-units", *listed).stdout.strip()

    def _round(self, act: Callable[[], None], lost: str = "") -> list[str]:
        self._number += 1
        before = {name: len(self._vm.judge(name)) for name in NAMES}
        expected = self._expected()
        since = len(self._vm.log())
        try:
            sequence = self._vm.publish(*self._wishes())
            act()
            self._until_told(sequence)
            wrong = self._wrong(before, expected, lost)
        except WaitedInVain as error:
            wrong = [str(error)]
        finally:
            self._killer.disarm()
        self._is_fresh = False
        return [*wrong, self._vm.log()[since:][-LOG_SHOWN:]] if wrong else []

    def _wishes(self) -> list[Wish]:
        """The last of them has its turn when the others are done."""
        versions = ((UPGRADED, f"1.{self._number}.0", 1), (SETTLED, "1.0.0", 1), (LAST, "1.0.0", 2))
        return [
            Wish(
                Package(name, version, does={"*": ["sleep=0.1"]}),
                settings=({"sequence": self._number, "public": {}, "level": level},),
            )
            for name, version, level in versions
        ]

    def _expected(self) -> dict[str, list[Judged]]:
        """What each handler's judge is to see in this round, in order."""
        new, old = f"1.{self._number}.0", f"1.{self._number - 1}.0"
        if self._is_fresh:
            both = [("install", "1.0.0"), ("enable", "1.0.0")]
            return {UPGRADED: [("install", new), ("enable", new)], SETTLED: both, LAST: both}
        change = [("disable", old), ("update", new), ("uninstall", old), ("install", new), ("enable", new)]
        return {UPGRADED: change, SETTLED: [("enable", "1.0.0")], LAST: [("enable", "1.0.0")]}

    def _wrong(self, before: dict[str, int], expected: dict[str, list[Judged]], lost: str) -> list[str]:
        """Whether each did what it had to, once; with a command `lost`, whether that is told."""
        wrong = []
        statuses = {name: self._vm.handler_status(name) for name in NAMES}
        for name in NAMES:
            begun = [(each["verb"], each["version"]) for each in self._vm.judge(name)[before[name] :]]
            if twice := [each for each, times in Counter(begun).items() if times > 1]:
                wrong.append(f"{name} ran {twice} more than once: {begun}")
            told = (statuses[name]["status"], statuses[name]["code"])
            if not lost and (begun, told) != (expected[name], ("Ready", 0)):
                wrong.append(f"{name} ran {begun} instead of {expected[name]}, and is told as {told}")
            if begun != expected[name] and told == ("Ready", 0):
                wrong.append(f"{name} ran {begun} instead of {expected[name]}, and is told as Ready")
        if lost and "its outcome is lost" not in statuses[UPGRADED]["formattedMessage"]["message"]:
            wrong.append(f"{UPGRADED}'s {lost} was lost and is told as {statuses[UPGRADED]}")
        return wrong

    def _kill_warden(self, verb: str) -> None:
        """Of UPGRADED, while it runs that command."""
        seen = self._vm.judge(UPGRADED)

        def runs() -> int:
            new = self._vm.judge(UPGRADED)[len(seen) :]
            return int(new[-1]["pid"]) if new and new[-1]["verb"] == verb else 0

        inner = until(f"{verb} under way", runs, SETTLED_WITHIN_S, 0.002)
        for pid, below in wardens(self._vm.lab):
            if inner in below:
                kill_process(pid)

    def _until_told(self, sequence: str) -> None:
        """Until the goal state has ended, and the host knows how each handler is."""

        def is_told() -> bool:
            if self._killer.trouble is not None:
                raise self._killer.trouble
            return self._unit.keep_running() and self._vm.outcome()[0] == sequence and self._is_told()

        until(f"goal state {sequence} told", is_told, SETTLED_WITHIN_S, 0.05)

    def _is_told(self) -> bool:
        told = self._vm.status().get("handlerAggregateStatus", ())
        numbers = {each["handlerName"]: each["runtimeSettingsStatus"]["sequenceNumber"] for each in told}
        return numbers == dict.fromkeys(NAMES, self._number)

    def _make_ready(self, kind: str) -> None:
        until("an agent that answers", lambda: self._unit.keep_running() and self._vm.ps(), SETTLED_WITHIN_S)
        if kind == FRESH and not self._is_fresh:
            self._clear()
        elif kind == CHANGE and self._is_fresh and (wrong := self._round(lambda: None)):
            raise WaitedInVain(f"nobody was killed, but: {wrong}")

    def _clear(self) -> None:
        """A goal state without handlers."""
        self._killer.disarm()
        sequence = self._vm.publish()
        until(
            "no handlers",
            lambda: (
                self._unit.keep_running()
                and self._vm.outcome()[0] == sequence
                and not self._vm.status()["handlerAggregateStatus"]
            ),
            SETTLED_WITHIN_S,
        )
        self._is_fresh = True


@contextlib.contextmanager
def extension_rounds(*, is_thorough: bool = True) -> Iterator[ExtensionRounds]:
    """Rounds in a VM of their own."""
    with traced_vm() as (vm, unit, killer):
        yield ExtensionRounds(vm, unit, killer, is_thorough=is_thorough)


@contextlib.contextmanager
def traced_vm() -> Iterator[tuple[HandlersVm, Unit, Killer]]:
    """A VM with systemd, provisioned; its agent is traced, and not systemd's."""
    around = Surroundings.make()
    with (
        killing(lambda gap: False, "supervisor") as killer,
        SystemdLab(image_files(CONFIG) | around.files()) as lab,
    ):
        killer.disarm()
        lab.output("mount", "--make-rshared", "/")
        scene = TracedScene(lab, killer=killer)
        around.start_host(scene, more=("--certificates=rsa",))
        wanted = Wanted(custom_data=None)
        scene.insert(wanted.medium())
        unit = Unit(scene)
        try:
            until("Ready", lambda: unit.keep_running() and scene.is_settled() and scene.is_fresh(), SETTLED_WITHIN_S)
            vm = HandlersVm(lab, scene, wanted, around)
            until("a status", lambda: unit.keep_running() and vm.status(), SETTLED_WITHIN_S)
            yield vm, unit, killer
        finally:
            killer.disarm()
            unit.stop()


def sample(gaps: Gaps, chance: random.Random) -> list[Draw]:
    """Some in the supervisor, one in each who touches handlers."""
    few = []
    for process, count in ((SUPERVISOR, 3), ("handler-start", 1), ("handler-files", 1)):
        own = [gap for gap in gaps if gap.process == process]
        few += chance.sample(own, min(count, len(own)))
    return [replace(draw, supersede=False) for draw in draws(gaps, few, 0, chance, KINDS)]


def run(seed: int, kills: int, texts: Sequence[str] = ()) -> Outcome:
    """Every gap once (with `texts`: those with one of them in their name), more in the supervisor until it is so many
    kills; then one warden of each command."""
    with ProcessPoolExecutor(LABS, multiprocessing.get_context("spawn")) as pool:
        gaps = pool.submit(_survey).result()
        chosen = [gap for gap in gaps if not texts or any(text in str(gap) for text in texts)]
        outcome = Outcome(tuple(gaps), tuple(chosen))
        wanted = draws(gaps, chosen, 0 if texts else kills, random.Random(seed), KINDS)
        for part in pool.map(_fight, (wanted[lab::LABS] for lab in range(LABS)), range(LABS)):
            outcome.add(part)
    return outcome


def _survey() -> dict[Gap, dict[str, int]]:
    with extension_rounds() as vm:
        return survey(vm, KINDS)


def _fight(wanted: list[Draw], lab: int) -> Outcome:
    def say(text: str) -> None:
        print(f"VM {lab + 1}: {text}", file=sys.stderr, flush=True)

    with extension_rounds() as vm:
        outcome = fight(vm, wanted, say)
        for verb in VERBS if not lab else ():
            outcome.wrong += vm.lose(verb)
        return outcome
