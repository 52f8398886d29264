# SPDX-License-Identifier: Apache-2.0
"""Owns the campaign over a VM with twenty handlers: goal state after goal state, and kill -9 at random moments, of the
agent's processes, of handlers' commands and of their wardens; what the handlers' own judges say of it.

Runs in a process of its own; it plays the service manager of the agent. The handlers' commands are systemd's.
"""

import multiprocessing
import random
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.fabric.demo_kills import Unit
from tests.fabric.handler_packages import Package
from tests.fabric.handlers_vm import HandlersVm, Wish
from tests.fabric.scene import kill_process
from tests.fabric.waiting import WaitedInVain, until
from tests.kills.calls import CLASSES
from tests.kills.extensions import traced_vm
from tests.kills.killer import Gap, Killer
from tests.kills.on_record import journal_mistakes
from tests.kills.processes import RESIDENTS, SPAWNER, SUPERVISOR
from tests.kills.wardens import wardens

HANDLERS, UPGRADED = 20, 2
GOAL_STATES, KILLS, VMS = 200, 1000, 2
# Who dies: of the agent's what comes to its next effect, of the handlers' what runs then.
WORKER, COMMAND, WARDEN = "worker", "command", "warden"
VICTIMS = {SUPERVISOR: 4, SPAWNER: 2, WORKER: 4, COMMAND: 1, WARDEN: 1}
OF_HANDLERS = (COMMAND, WARDEN)
# How the host is told of it: the shell that a command is run by ends with 128 and the signal's number.
TOLD = {COMMAND: "exits with 137", WARDEN: "its outcome is lost"}
MOST_WRONG = 4
SETTLED_WITHIN_S = 180.0
LOG_SHOWN = 8000
Judged = tuple[str, str, str]


@dataclass
class Handler:
    """One that the goal state names: of which version, with which sequence number; `is_new` until it was told once."""

    name: str
    version: int = 1
    sequence: int = 0
    is_new: bool = True
    expected: tuple[Judged, ...] = ()

    def change(self, *, upgrade: bool) -> None:
        """Other settings, and with `upgrade` a newer version."""
        old, before = f"{self.version}.0.0", str(self.sequence)
        self.sequence += 1
        self.version += upgrade
        new, sequence = f"{self.version}.0.0", str(self.sequence)
        fresh = (("install", new, sequence), ("enable", new, sequence))
        if self.is_new:
            self.expected = fresh
        elif upgrade:
            self.expected = (("disable", old, before), ("update", new, sequence), ("uninstall", old, sequence), *fresh)
        else:
            self.expected = fresh[1:]

    def wish(self) -> Wish:
        """As the goal state says it."""
        package = Package(self.name, f"{self.version}.0.0", does={"*": ["sleep=0.1"]})
        return Wish(package, settings=({"sequence": self.sequence, "public": {}},))


class Moments:
    """Says yes when one of the agent's processes comes to an effect at a moment that was drawn; `whom` has who is due
    among the handlers' processes, for another thread to kill."""

    def __init__(self, victims: list[str], moments: list[int]) -> None:
        """`moments` count the effects of all, from the first; each has its victim."""
        self.whom: Counter[str] = Counter()
        self.killed: list[Gap] = []
        self._due = sorted(zip(moments, victims, strict=True))
        self._came = 0

    def __call__(self, gap: Gap) -> bool:
        self._came += 1
        while self._due and self._due[0][0] <= self._came:
            self.whom[self._due.pop(0)[1]] += 1
        victim = gap.process if gap.process in RESIDENTS else WORKER
        if not self.whom[victim]:
            return False
        self.whom[victim] -= 1
        self.killed.append(gap)
        return True


@dataclass
class Tally:
    """What was done, and what is wrong; `lost` commands are those that were killed or whose warden was."""

    goal_states: int = 0
    commands: int = 0
    lost: int = 0
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """What another VM has had."""
        self.goal_states += other.goal_states
        self.commands += other.commands
        self.lost += other.lost
        self.kills += other.kills
        self.wrong += other.wrong


class Crowd:
    """The VM and its handlers."""

    def __init__(
        self, vm: HandlersVm, unit: Unit, killer: Killer, chance: random.Random, say: Callable[[str], None]
    ) -> None:
        self.tally = Tally()
        self._say = say
        self._vm = vm
        self._unit = unit
        self._killer = killer
        self._chance = chance
        self._names = iter(range(1, 1 << 20))
        self._handlers: list[Handler] = []
        self._lost: dict[str, str] = {}

    def play(self, kills: int, effects: int) -> int:
        """One goal state, with that many kills spread over about that many effects; how many effects there were."""
        if kills:
            # A killed one is started again later each time: that is for the unit tests of that.
            self._unit.stop()
        self._change()
        before = {handler.name: len(self._vm.judge(handler.name)) for handler in self._handlers}
        drawn = self._chance.choices(list(VICTIMS), list(VICTIMS.values()), k=kills)
        moments = Moments(drawn, [self._chance.randint(1, effects) for _ in drawn])
        since, sequence = len(self._vm.log()), ""
        try:
            until("an agent that answers", lambda: self._unit.keep_running() and self._vm.ps(), SETTLED_WITHIN_S)
            self._killer.begin(moments, "supervisor")
            sequence = self._vm.publish(*(handler.wish() for handler in self._handlers))
            self._until_told(sequence, moments)
            wrong = self._wrong(before)
        except WaitedInVain as error:
            wrong = [str(error)]
        finally:
            self._killer.disarm()
        self.tally.goal_states += 1
        self.tally.kills.update((gap.process, gap.kind) for gap in moments.killed)
        if wrong:
            killed = f"goal state {sequence}, killed: {', '.join(map(str, moments.killed))}; lost: {self._lost}"
            self.tally.wrong.append("\n".join([killed, *wrong, self._vm.log()[since:][-LOG_SHOWN:]]))
            self._say(self.tally.wrong[-1])
        return sum(self._killer.seen.values())

    def end(self) -> None:
        """What is wrong with all of it: a command that ran twice in all that time, a journal that can't be read."""
        for number in range(1, next(self._names)):
            lines = Counter(
                (each["verb"], each["version"], each["sequence"]) for each in self._vm.judge(f"Crowd.H{number}")
            )
            self.tally.commands += lines.total()
            if twice := [line for line, times in lines.items() if times > 1]:
                self.tally.wrong.append(f"Crowd.H{number} ran {twice} more than once")
        self.tally.wrong += journal_mistakes(self._vm.lab.path("/var/lib/agent-supervisor/journal").read_bytes())

    def _change(self) -> None:
        """Who was lost goes, with another one in its place; the others get other settings, and some are upgraded."""
        self._handlers = [handler for handler in self._handlers if handler.name not in self._lost]
        self._lost = {}
        for place, handler in enumerate(self._chance.sample(self._handlers, len(self._handlers))):
            handler.is_new = False
            handler.change(upgrade=place < UPGRADED)
        for _ in range(HANDLERS - len(self._handlers)):
            handler = Handler(f"Crowd.H{next(self._names)}")
            handler.change(upgrade=False)
            self._handlers.append(handler)

    def _until_told(self, sequence: str, moments: Moments) -> None:
        """Until the goal state has ended, and the host knows how each handler is; handlers' processes die meanwhile."""

        def is_told() -> bool:
            if self._killer.trouble is not None:
                raise self._killer.trouble
            self._strike(moments)
            return self._unit.keep_running() and self._vm.outcome()[0] == sequence and self._is_told()

        until(f"goal state {sequence} told", is_told, SETTLED_WITHIN_S, 0.02)

    def _is_told(self) -> bool:
        told = self._vm.status().get("handlerAggregateStatus", ())
        numbers = {each["handlerName"]: each["runtimeSettingsStatus"]["sequenceNumber"] for each in told}
        return numbers == {handler.name: handler.sequence for handler in self._handlers}

    def _strike(self, moments: Moments) -> None:
        """Kill a command, or the warden of one, if it is time."""
        for victim in OF_HANDLERS:
            if not moments.whom[victim]:
                continue
            alive = dict(wardens(self._vm.lab))
            for handler in self._chance.sample(self._handlers, HANDLERS):
                last = next(reversed(self._vm.judge(handler.name)), None)
                for warden, below in alive.items():
                    if last is None or last["pid"] not in below or handler.name in self._lost:
                        continue
                    if kill_process(warden if victim == WARDEN else below[last["pid"]]):
                        moments.whom[victim] -= 1
                        self._lost[handler.name] = victim
                        self.tally.kills[victim, "process"] += 1
                        return

    def _wrong(self, before: dict[str, int]) -> list[str]:
        """Whether each did what it had to, once; one whose command was killed is told so, unless that had ended."""
        wrong = []
        for handler in self._handlers:
            lines = self._vm.judge(handler.name)[before[handler.name] :]
            begun = tuple((each["verb"], each["version"], each["sequence"]) for each in lines)
            told = self._vm.handler_status(handler.name)
            outcome, text = (told["status"], told["code"]), told.get("formattedMessage", {}).get("message", "")
            if handler.name not in self._lost:
                if begun != handler.expected or outcome != ("Ready", 0):
                    wrong.append(f"{handler.name} ran {begun} instead of {handler.expected}; told {outcome}: {text}")
                continue
            self.tally.lost += 1
            if begun != handler.expected[: len(begun)]:
                wrong.append(f"{handler.name}, killed, ran {begun} instead of {handler.expected}")
            if outcome == ("Ready", 0) and not self._has_ended(handler, lines[-1]):
                wrong.append(f"{handler.name} was killed while it ran {begun[-1]}, and is told as Ready")
            if outcome != ("Ready", 0) and TOLD[self._lost[handler.name]] not in text:
                wrong.append(f"{handler.name}, killed, is told without that reason: {outcome}: {text}")
        return wrong

    def _has_ended(self, handler: Handler, line: dict[str, object]) -> bool:
        """Whether the command came to its own end before it was killed."""
        return line["pid"] in {each["pid"] for each in self._vm.judge(f"{handler.name}.ended")}


def play(seed: int, goal_states: int, kills: int, say: Callable[[str], None]) -> Tally:
    """One VM's share."""
    chance = random.Random(seed)
    with traced_vm() as (vm, unit, killer):
        crowd = Crowd(vm, unit, killer, chance, say)
        crowd.play(0, 1)
        effects = crowd.play(0, 1)
        # With one of those wrong nothing that follows would mean anything.
        most_wrong = 1 if crowd.tally.wrong else MOST_WRONG
        while crowd.tally.goal_states < goal_states + 2 and len(crowd.tally.wrong) < most_wrong:
            left = goal_states + 2 - crowd.tally.goal_states
            crowd.play(round((kills - crowd.tally.kills.total()) / left), effects)
            if crowd.tally.goal_states % 10 == 0:
                say(f"{crowd.tally.goal_states} goal states, {crowd.tally.kills.total()} kills")
        crowd.end()
        return crowd.tally


def run(seed: int, kills: int = KILLS) -> Tally:
    """All of it: so many kills, and goal states in the same proportion."""
    goal_states = max(1, GOAL_STATES * kills // KILLS)
    tally = Tally()
    with ProcessPoolExecutor(VMS, multiprocessing.get_context("spawn")) as pool:
        shares = [(seed + vm, goal_states // VMS, kills // VMS, vm) for vm in range(VMS)]
        for part in pool.map(_share, shares):
            tally.add(part)
    return tally


def _share(share: tuple[int, int, int, int]) -> Tally:
    seed, goal_states, kills, vm = share
    return play(seed, goal_states, kills, lambda text: print(f"VM {vm + 1}: {text}", file=sys.stderr, flush=True))


def told(tally: Tally) -> str:
    """The kills by who died and before which class of effect, and a line below."""
    rows = [["killed", *CLASSES, "all"]]
    for process in sorted({process for process, _ in tally.kills}):
        counts = [tally.kills[process, kind] for kind in CLASSES]
        rows.append([process, *map(str, counts), str(sum(counts))])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(
        [
            *lines,
            f"{tally.kills.total()} kills in {tally.goal_states} goal states with {HANDLERS} handlers each: "
            f"{tally.commands} commands begun, {tally.lost} of them killed or out of sight; {len(tally.wrong)} wrong",
        ]
    )
