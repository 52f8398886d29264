# SPDX-License-Identifier: Apache-2.0
"""Owns the extensions of the goal state in force: whose turn it is, what is in the way of it, and when all has ended.

Runs in the supervisor, beside the polls: whatever a handler does, nothing here waits for it but its own turn and those
that depend on it. What one goal state has not begun is given up as soon as there is a newer one.
"""

from collections.abc import Callable

import msgspec

from ipc.errors import AgentError, StateError
from ipc.messages import HandlerManifest
from supervisor.extensions.files import HandlerFiles
from supervisor.extensions.gates import Gates
from supervisor.extensions.installed import Installed
from supervisor.extensions.next_step import Wanted
from supervisor.extensions.ordering import Item, by_handler, stages
from supervisor.extensions.patience import DEADLINE_S, Patience
from supervisor.extensions.procedure import GIVEN_UP, Outcome, Tools, Turn
from supervisor.extensions.reports import Reports
from supervisor.extensions.shown import Leftover, ShownExtension
from supervisor.extensions.status_files import StatusFiles
from supervisor.extensions.told import TERMINAL
from supervisor.extensions.turns import Turns
from supervisor.extensions.waagent_policy import WaagentPolicy
from supervisor.goal_state.adopted import Adopted, HandlerStatus
from supervisor.journal import Journal
from supervisor.loop import Loop

LOOK_S = 1.0
# What could not be had is tried again with the next poll, then ever less often.
MOST_PAUSE_S = 300.0


class Members(msgspec.Struct, frozen=True):
    """Whom the extensions are carried out by, one of each. `period_s` is that of the polls."""

    loop: Loop
    journal: Journal
    gates: Gates
    policy: WaagentPolicy
    tools: Tools
    files: HandlerFiles
    installed: Installed
    status_files: StatusFiles
    say: Callable[[str, str, str], None]
    period_s: float


class Extensions:
    """All of them. `reports` tells how they are, and `on_change` is called when that is another thing; `on_end` when a
    goal state's have all ended for the first time: it raises StateError if that can't be written down."""

    def __init__(self, members: Members, reports: Reports) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.on_end: Callable[[Adopted], None] = lambda _: None
        self.reports = reports
        self.events = members.tools.events
        reports.on_change = self._changed
        self._ = members
        self._adopted: Adopted | None = None
        self._generation = 0
        self._has_begun = False
        self._turns = Turns(members.tools)
        self._patience = Patience(members.journal, members.loop.clock, members.tools.boot, members.tools.say)

    def take(self, adopted: Adopted, *, has_ended: bool) -> None:
        """Carry it out in place of the one before. `has_ended`: it has come to its end before, and only what a new
        boot asks for is left to be done."""
        self._generation += 1
        self._adopted = adopted
        items = [item for stage in stages(adopted.goal_state.plugins) for item in stage]
        self._turns.forget({item.plugin.name for item in items})
        self.reports.take(items, goal_state_key(adopted))
        self._.loop.start("extensions", self._carry_out(self._generation, has_ended=has_ended), detached=True)

    def renew(self, adopted: Adopted) -> None:
        """The same goal state, with fresh URLs."""
        if self._adopted is not None and self._adopted.id == adopted.id:
            self._adopted = adopted

    def rest(self) -> None:
        """The goal state in force is not to be carried out: what was begun comes to its end, and no more is."""
        self._generation += 1
        self._adopted = None
        self.reports.take([], "")

    def handlers(self) -> tuple[HandlerStatus, ...]:
        """What the host is told of the goal state's handlers."""
        return self.reports.handlers()

    def shown(self) -> tuple[ShownExtension, ...]:
        """What the command shows of them."""
        return self.reports.shown()

    def leftovers(self) -> tuple[Leftover, ...]:
        """What was to be removed, and can't go."""
        return self._.installed.leftovers()

    def manifest(self, handler: str, version: str) -> HandlerManifest | None:
        """As far as it was needed already."""
        procedure = self._turns.known(handler)
        return procedure.manifest(version) if procedure is not None else None

    def _changed(self) -> None:
        if self._adopted is not None:
            self.on_change()

    def look(self) -> None:
        """At what handlers have left, with each poll."""
        self._.status_files.begin_look()

    async def _carry_out(self, generation: int, *, has_ended: bool) -> None:
        pause_s = self._.period_s
        await self._begin()
        ends = self._ends(generation)
        is_purged = False
        while self._is_current(generation):
            try:
                again = await self._round(generation, ends)
                if not is_purged:
                    await self._purge(generation, waiting=False)
                if not self._is_current(generation) or self._adopted is None:
                    return
                if not has_ended:
                    self.on_end(self._adopted)
                    has_ended = True
                if not is_purged:
                    await self._purge(generation, waiting=True)
                    is_purged = True
            except (AgentError, OSError) as error:
                again = True
                self._.say("warning", "extensions", f"not done, and tried again in {pause_s:g} s: {error}")
            if not again:
                return
            await self._.loop.sleep(pause_s)
            pause_s = min(2 * pause_s, MOST_PAUSE_S)

    async def _begin(self) -> None:
        """Before anything else, with each goal state."""
        await self._.policy.read()
        try:
            self._.installed.take_over()
            if not self._has_begun:
                self._.installed.renew_environments()
            self._has_begun = True
        except (StateError, OSError) as error:
            self._.say("warning", "extensions", f"what another agent has installed is not taken over: {error}")

    def _ends(self, generation: int) -> float:
        """Until when its extensions wait for those that they depend on, by the monotonic clock."""
        adopted = self._adopted if self._is_current(generation) else None
        items = [item for stage in stages(adopted.goal_state.plugins) for item in stage] if adopted is not None else []
        if adopted is None or not any(item.is_awaited for item in items):
            return self._.loop.clock.monotonic()
        return self._patience.ends(goal_state_key(adopted))

    async def _round(self, generation: int, ends: float) -> bool:
        """Every turn once; whether there is any that may go better at another try."""
        adopted = self._adopted
        failed, again = "", False
        for stage in stages(adopted.goal_state.plugins) if adopted is not None else ():
            tasks = [
                self._.loop.start(f"extensions of {turns[0].plugin.name}", self._group(turns, generation, failed))
                for turns in by_handler(stage)
            ]
            for task in tasks:
                await self._.loop.settled(task)
            for task in tasks:
                outcomes = task.result()
                again = again or any(outcome.again for _, outcome in outcomes)
                for item, outcome in outcomes:
                    failed = failed or await self._wait(item, outcome, generation, ends)
            if not self._is_current(generation):
                return False
        return again

    async def _group(self, turns: list[Item], generation: int, failed: str) -> list[tuple[Item, Outcome]]:
        """The turns of one handler, one after the other."""
        return [(item, await self._turn(item, generation, failed)) for item in turns]

    async def _turn(self, item: Item, generation: int, failed: str) -> Outcome:
        if not self._is_current(generation):
            return GIVEN_UP
        turn = Turn(
            item,
            self._wanted(item, generation),
            lambda: self._adopted if self._is_current(generation) else None,
            lambda: self._.gates.refusal(item, failed),
            lambda version, sentence: self.reports.at(item, version, sentence),
        )
        outcome = await self._turns.alone(item.plugin.name, lambda procedure: procedure.take(turn)) or GIVEN_UP
        if not outcome.is_given_up and self._is_current(generation):
            self.reports.ended(item, outcome)
            await self._.status_files.look(item.plugin.name)
        return outcome

    async def _wait(self, item: Item, outcome: Outcome, generation: int, ends: float) -> str:
        """What is wrong with one that others depend on; empty once it has told of its success."""
        if not item.is_awaited or not self._is_current(generation):
            return ""
        if outcome.code:
            return f"{item.name}, which comes before it, has failed: {outcome.message}"
        while item.settings is not None and item.kind == "enable" and self._is_current(generation):
            await self._.status_files.look(item.plugin.name)
            status = self.reports.found(item)
            if status in TERMINAL:
                return "" if status == "success" else f"{item.name}, which comes before it, reports {status}"
            if self._.loop.clock.monotonic() >= ends:
                return f"{item.name}, which comes before it, has not told of its success in {DEADLINE_S / 60:g} min"
            await self._.loop.sleep(LOOK_S)
        return ""

    async def _purge(self, generation: int, *, waiting: bool) -> None:
        """What no goal state names any more goes, once its last command has ended: `waiting` for that, or others."""
        adopted = self._adopted
        wanted = {plugin.name for plugin in adopted.goal_state.plugins} if adopted is not None else set()
        busy = [name for name in self._.journal.state.extensions.handlers if name not in wanted and self._is_busy(name)]
        for handler in busy if waiting else ():
            if self._is_current(generation):
                await self._turns.alone(handler, lambda procedure: procedure.settle())
        if not self._is_current(generation) or (waiting and not busy):
            return
        for plugin in adopted.goal_state.plugins if adopted is not None else ():
            names = {each.name if plugin.is_multi_config else "" for each in plugin.settings} | {""}
            self._.installed.forget_ends(plugin.name, names)
        await self._.installed.purge(wanted | (set() if waiting else set(busy)))

    def _is_busy(self, handler: str) -> bool:
        under_way = self._.journal.state.extensions.of(handler).undertaking
        return self._turns.is_taken(handler) or (under_way is not None and any(not run.ended for run in under_way.runs))

    def _wanted(self, item: Item, generation: int) -> Wanted:
        adopted = self._adopted if self._is_current(generation) else None
        return Wanted(
            goal_state_key(adopted) if adopted is not None else "",
            item.kind,
            "",
            item.extension,
            item.sequence_number,
            item.plugin.is_multi_config,
        )

    def _is_current(self, generation: int) -> bool:
        return generation == self._generation


def goal_state_key(adopted: Adopted) -> str:
    """By which the journal knows it: a host may count from 1 again."""
    return f"{adopted.id[:120]} {adopted.goal_state.created}"
