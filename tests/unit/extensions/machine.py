# SPDX-License-Identifier: Apache-2.0
"""A machine for extensions: real journal, files and procedure; in the place of workers and systemd, who only tell."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ipc.errors import HostUnreachable
from ipc.messages import ExtensionSettings, ExtensionStatus, HandlerManifest, Plugin
from ipc.messages.extension_rules import ExtensionRule
from supervisor.extension_records import Life, Run
from supervisor.extensions.commands import Order, Result, Running
from supervisor.extensions.extensions import Extensions, Members
from supervisor.extensions.files import HandlerFiles
from supervisor.extensions.gates import Gates
from supervisor.extensions.installed import Installed
from supervisor.extensions.manifests import Choice
from supervisor.extensions.ordered import Ordered, Ordering
from supervisor.extensions.procedure import Tools
from supervisor.extensions.reports import Facts, Reports
from supervisor.extensions.ruling import Waagent
from supervisor.extensions.status_files import Place
from supervisor.extensions.told import NOTHING, Found
from supervisor.goal_state.adopted import Adopted, HandlerStatus
from supervisor.journal import Journal
from supervisor.loop import Loop, Promise
from supervisor.telemetry.handler_events import HandlerEvents
from tests.unit.extensions.lives import PLAIN
from tests.unit.goal_state.test_goal_state_choice import wire
from tests.unit.supervisor.turned import HandClock, turn_until

WELL = Result(0, 0, timed_out=False, lost=False, output="", seconds=0.1)
CREATED = "2026-01-01T00:00:{:02d}.000000Z"


def plugin(name: str, version: str = "1.0.0.0", level: int = 0, state: str = "enabled", sequence: int = 1) -> Plugin:
    """A handler with one extension."""
    settings = ExtensionSettings("", sequence, "enabled", level, "")
    return Plugin(name, version, state, False, ("https://store.example/m",), False, (settings,))


def goal_state(number: int, *plugins: Plugin) -> Adopted:
    """The one of that incarnation."""
    one = wire(CREATED.format(number), number)
    return replace(one, goal_state=replace(one.goal_state, plugins=plugins))


class Unpacked:
    """What a package would be."""

    def __init__(self, manifest: HandlerManifest) -> None:
        self.manifest = manifest

    def close(self) -> None:
        """Nothing is held."""


class Workers:
    """Packages, manifests, commands and status files, as their users see them. `ran` are the commands that were
    ordered, `held` those whose end a test gives; `broken` handlers have no package; `said` are status words."""

    def __init__(self, lib: Path) -> None:
        self.lib = lib
        # As their folders are in /run: there for every life of the supervisor.
        self.begun = lib.parent / "begun"
        self.ran: list[str] = []
        self.held: dict[str, Promise[Result]] = {}
        self.hold: Callable[[str], bool] = lambda _: False
        self.results: dict[str, Result] = {}
        self.broken: set[str] = set()
        self.said: dict[str, str] = {}
        self.removed: list[str] = []
        self.fetched = 0
        self.is_busy = False
        self.stays: dict[str, str] = {}
        self.orders: list[Order] = []
        self.on_change: Callable[[], None] = lambda: None
        self.manifest = PLAIN

    async def choose(self, of: Plugin, *, verify: bool, is_new: bool) -> Choice:
        """Storage has what is wanted."""
        self.fetched += 1
        if of.name in self.broken or verify:
            raise HostUnreachable(f"{of.name} can't be fetched")
        return Choice(of.version, of.locations, of.locations[0])

    async def of(self, _handler: str, _version: str) -> HandlerManifest:
        """All have the same."""
        return self.manifest

    async def obtain(self, *_: object) -> Unpacked:
        """Whole and right."""
        return Unpacked(self.manifest)

    async def place(self, _obtained: object, folder: str, _kept: object) -> None:
        """A folder."""
        (self.lib / folder).mkdir(exist_ok=True)

    async def carry_over(self, source: str, target: str) -> None:
        """Noted alone."""
        self.ran.append(f"carry over {source} {target}")

    async def remove(self, folder: str) -> None:
        """A folder less, or what lies aside of it."""
        self.removed.append(folder)
        shutil.rmtree(self.lib / folder, ignore_errors=True)

    async def run(self, order: Order) -> Result:
        """As it was told to end, once it was told."""
        name = f"{order.verb} {order.handler} {order.version} {order.sequence_number}"
        if order.number not in {each.number for each in self.orders}:
            self.ran.append(name)
        self.orders.append(order)
        self.begun.mkdir(exist_ok=True)
        (self.begun / str(order.number)).touch()
        if self.hold(name):
            self.held[name] = Promise()
            return await self.held[name]
        return self.results.get(f"{order.verb} {order.handler}", WELL)

    async def find(self, order: Order) -> Result | None:
        """The same, of one that was begun."""
        return await self.run(order) if (self.begun / str(order.number)).exists() else None

    def highest(self) -> int:
        """Of those that were begun in this boot."""
        return max((int(path.name) for path in self.begun.glob("*")), default=0)

    def running(self) -> tuple[Running, ...]:
        """Nobody asks."""
        return ()

    async def read(self) -> Waagent:
        """No policy file."""
        return Waagent()

    def watch(self, _places: object) -> None:
        """Nothing is looked for."""

    def begin_look(self) -> None:
        """Nothing is looked for."""

    async def look(self, _handler: str) -> None:
        """What is found is told by the test."""

    def found(self, place: Place) -> Found:
        """A status of that word."""
        word: Any = self.said.get(place.handler)
        return Found(ExtensionStatus(place.handler, "", "", word, 0, "")) if word else NOTHING


class Machine:
    """One life of the supervisor, as far as extensions are concerned."""

    def __init__(self, folder: Path, rules: tuple[ExtensionRule, ...] = (), boot: str = "boot-1") -> None:
        self.lib = folder / "lib"
        self.lib.mkdir(exist_ok=True)
        self.clock = HandClock()
        self.loop = Loop(self.clock)
        self.journal = Journal(folder / "journal")
        self.ended: list[str] = []
        self.log: list[str] = []
        self.runs: list[Run] = []
        workers: Any = Workers(self.lib)
        self.workers: Workers = workers
        files = HandlerFiles(str(self.lib), str(folder / "log"), self.log.append)
        gates = Gates(rules, Waagent, extensions_enabled=True)

        def say(_level: str, _source: str, text: str) -> None:
            self.log.append(text)

        ordering = Ordering(
            self.journal,
            workers,
            files,
            gates.rule,
            lambda _: True,
            str,
            lambda _: None,
            "168.63.129.16",
            boot,
            self._ended,
            self.clock,
        )
        self.events = HandlerEvents(self.clock)
        ordered = Ordered(ordering)
        tools = Tools(
            self.journal,
            files,
            workers,
            workers,
            ordered,
            lambda _: None,
            boot,
            lambda _kind, _number: None,
            self.log.append,
            self.events,
        )
        facts = Facts(
            self.loop,
            lambda: self.journal.state.extensions,
            lambda _handler, _version: None,
            lambda handler, version: gates.rule(handler, version, "enable"),
            workers,
            files,
            workers,
            say,
        )
        installed = Installed(self.journal, files, workers, gates.rule, say)
        members = Members(self.loop, self.journal, gates, workers, tools, files, installed, workers, say, 1.0)
        self.extensions = Extensions(members, Reports(facts))
        self.extensions.on_end = lambda adopted: self.ended.append(adopted.id)

    def _ended(self, handler: str, run: Run, seconds: float) -> None:
        self.runs.append(run)
        self.events.command(handler, run, seconds)

    def take(self, adopted: Adopted) -> None:
        """Begin it."""
        self.extensions.take(adopted, has_ended=False)

    def until(self, condition: Callable[[], object]) -> None:
        """Time passes meanwhile."""

        def passes() -> bool:
            self.clock.now += 0.5
            return bool(condition())

        turn_until(self.loop, passes)

    def pass_time(self, seconds: float) -> None:
        """And let whoever is ready work meanwhile."""
        ends = self.clock.now + seconds
        self.until(lambda: self.clock.now > ends)

    def carry_out(self, adopted: Adopted) -> None:
        """To its end."""
        self.take(adopted)
        self.until(lambda: adopted.id in self.ended)

    def told(self) -> Mapping[str, HandlerStatus]:
        """By handler."""
        return {each.name: each for each in self.extensions.handlers()}

    def brief(self) -> dict[str, tuple[str, int]]:
        """The same, shorter."""
        return {name: (each.status, each.code) for name, each in self.told().items()}

    def life(self, handler: str) -> Life:
        """What the journal knows."""
        return self.journal.state.extensions.of(handler)

    def folders(self) -> set[str]:
        """What is in Lib.Dir."""
        return {path.name for path in self.lib.iterdir()}


# A fresh life of the supervisor on the same disk, the one before it gone.
Boot = Callable[..., Machine]
