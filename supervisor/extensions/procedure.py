# SPDX-License-Identifier: Apache-2.0
"""Owns how one handler comes to be as a goal state wants it: step by step, each written down before it is taken.

Runs in the supervisor. What a step takes from outside, packages and commands, is others' work; which one is next,
`next_step` says alone.
"""

from collections.abc import Callable, Collection

import msgspec
from msgspec.structs import replace

from ipc.errors import AgentError, CommitError
from ipc.messages import HandlerManifest, Plugin
from supervisor.audit_log_entry import Audit, Decision, Entry
from supervisor.extension_records import (
    AnyExtensionRecord,
    HandlerKept,
    Life,
    UndertakingBegun,
    UndertakingEnded,
)
from supervisor.extensions import naming
from supervisor.extensions.commands import KIND
from supervisor.extensions.files import HandlerFiles
from supervisor.extensions.handler_folders import COMMITTER
from supervisor.extensions.manifests import NO_MANIFEST, Choice, Manifests, NoVersion
from supervisor.extensions.next_step import (
    OTHER,
    Begin,
    CarryOver,
    Choose,
    Command,
    Drop,
    Ended,
    Finish,
    Note,
    Place,
    Remove,
    Step,
    Wanted,
    WriteSettings,
    is_for,
    next_step,
    noted,
)
from supervisor.extensions.ordered import Ordered
from supervisor.extensions.ordering import Item
from supervisor.extensions.packages import PackageProblem, Packages
from supervisor.goal_state.adopted import Adopted
from supervisor.journal import Journal
from supervisor.telemetry.handler_events import HandlerEvents

# Why what was ordered is not begun any more.
GONE = "another goal state came before it was begun"
# What of a handler's own is left where it is when its package is laid down once more.
KEPT = ("config", "status")


class Outcome(msgspec.Struct, frozen=True):
    """How a turn has ended: 0, or a code and what went wrong. `again`: another try may go better, though nothing else
    has changed. `is_given_up`: a newer goal state is there."""

    code: int = 0
    message: str = ""
    again: bool = False
    is_given_up: bool = False
    is_refused: bool = False


GIVEN_UP = Outcome(is_given_up=True)


class Turn(msgspec.Struct, frozen=True):
    """One extension's turn. `adopted` gives the goal state with the newest URLs, None once another one is in force;
    `refusal` why it may not be carried out, None if it may. `tell` takes the version and, in a sentence, what is being
    done with it."""

    item: Item
    wanted: Wanted
    adopted: Callable[[], Adopted | None]
    refusal: Callable[[], Outcome | None]
    tell: Callable[[str, str], None]


class Tools(msgspec.Struct, frozen=True):
    """What a handler's procedure works with; `boot` is the kernel's id of this boot. `prepare` has so many workers of a
    kind begun before their jobs are there; `say` takes a warning."""

    journal: Journal
    files: HandlerFiles
    packages: Packages
    manifests: Manifests
    ordered: Ordered
    audit: Audit
    boot: str
    prepare: Callable[[str, int], None]
    say: Callable[[str], None]
    events: HandlerEvents


class Procedure:
    """One handler's; it has one turn at a time."""

    def __init__(self, tools: Tools, handler: str) -> None:
        self._ = tools
        self._handler = handler
        self._known: dict[str, HandlerManifest] = {}
        self._done: set[str] = set()
        self._choice: Choice | None = None

    @property
    def _life(self) -> Life:
        return self._.journal.state.extensions.of(self._handler)

    def manifest(self, version: str) -> HandlerManifest | None:
        """As far as it was needed already."""
        return self._known.get(version)

    async def take(self, turn: Turn) -> Outcome:
        """The whole turn. Never raises AgentError."""
        self._done.clear()
        self._choice = None
        try:
            return await self._walk(turn)
        except PackageProblem as problem:
            return Outcome(problem.code, str(problem), again=True)
        except NoVersion as problem:
            return Outcome(OTHER, str(problem))
        except (AgentError, OSError) as error:
            return Outcome(OTHER, str(error), again=True)

    async def settle(self) -> None:
        """Wait for the command that was begun, if there is one, and begin nothing."""
        under_way = self._life.undertaking
        run = next((run for run in under_way.runs if not run.ended), None) if under_way is not None else None
        if run is not None:
            await self._load()
            again = Command(run.step, verb=run.verb, version=run.version, extension=run.extension, run=run)
            await self._.ordered.carry_out(self._handler, again, self._known, "", GONE)

    async def _walk(self, turn: Turn) -> Outcome:
        wanted = turn.wanted
        self._forget_what_is_gone()
        while True:
            await self._load()
            step = _stuck(self._handler, self._life, self._known) or next_step(
                wanted, self._life, self._.boot, self._known, self._done
            )
            if isinstance(step, Ended):
                return Outcome(step.end.code, step.end.message)
            is_own = _is_for(self._life, turn)
            # A command that was ordered for this turn is waited for by a later one for the same.
            if turn.adopted() is None and (_begins(step) or (is_own and isinstance(step, Command))):
                return GIVEN_UP
            if isinstance(step, (Choose, Begin)) and (refusal := turn.refusal()) is not None:
                return refusal
            if (denied := _denied(self._.ordered, self._handler, self._life, step)) is not None:
                if isinstance(step, Begin) or is_own:
                    return denied
                self._done.add(step.key)
            elif isinstance(step, Choose):
                wanted = replace(wanted, version=await self._choose(turn))
            else:
                await self._do(step, turn)

    async def _do(self, step: Step, turn: Turn) -> None:
        if isinstance(step, Begin):
            self._done.clear()
            self._note(UndertakingBegun(self._handler, step.undertaking))
        elif isinstance(step, Place):
            await self._place(step, turn)
        elif isinstance(step, WriteSettings):
            self._write_settings(step, turn)
        elif isinstance(step, Command):
            turn.tell(step.version, f"{step.verb} runs")
            if step.verb == "enable":
                # Its status file mostly comes soon.
                self._prepare("parser")
            withdrawn = "" if _is_for(self._life, turn) else GONE
            await self._.ordered.carry_out(self._handler, step, self._known, turn.item.thumbprint, withdrawn)
        elif isinstance(step, CarryOver):
            source, target = (naming.folder_name(self._handler, each) for each in (step.source, step.target))
            await self._.packages.carry_over(source, target)
        elif isinstance(step, Finish):
            self._finish(step)
        else:
            await self._remove(step, turn)
        self._done.add(step.key)

    def _finish(self, step: Finish) -> None:
        ended = UndertakingEnded(self._handler, self._.boot, step.code, step.message, step.failed_upgrade)
        self._record("failed" if step.code else "done", step.message)
        self._note(ended)
        if step.failed_upgrade:
            self._.files.note_state(naming.folder_name(self._handler, step.failed_upgrade), "FailedUpgrade")

    async def _remove(self, step: Step, turn: Turn) -> None:
        """Or whatever else changes what is there without a command."""
        if isinstance(step, Remove):
            try:
                await self._.packages.remove(naming.folder_name(self._handler, step.version))
            except AgentError as error:
                if _is_for(self._life, turn):
                    raise
                # What a later goal state wants does not wait for it.
                self._.say(f"{naming.folder_name(self._handler, step.version)} can't be removed, and stays: {error}")
                return
            self._known.pop(step.version, None)
        elif isinstance(step, Drop):
            self._.files.drop(naming.folder_name(self._handler, step.version), step.extension)
        elif isinstance(step, Note):
            self._.files.note_state(naming.folder_name(self._handler, step.version), "Installed")
        self._note(noted(step, self._handler, self._life))
        if isinstance(step, Drop) and not self._life.enabled:
            self._.files.note_state(naming.folder_name(self._handler, step.version), "Installed")

    async def _choose(self, turn: Turn) -> str:
        """The version. One that can only be itself, and is installed, is asked nobody for."""
        plugin = turn.item.plugin
        if naming.is_complete(plugin.version) and naming.is_same(plugin.version, self._life.version):
            return plugin.version
        if self._choice is None:
            adopted = turn.adopted()
            if not self._life.version:
                turn.tell(plugin.version, "its manifest is fetched")
            self._prepare("parser", "storage")
            verify = adopted is not None and adopted.source == "FastTrack"
            newest = _newest(turn, adopted) if adopted is not None else plugin
            with self._.events.attempt(self._handler, plugin.version):
                self._choice = await self._.manifests.choose(newest, verify=verify, is_new=not self._life.version)
        return self._choice.version

    async def _place(self, step: Place, turn: Turn) -> None:
        await self._choose(turn)
        choice, adopted = self._choice, turn.adopted()
        if choice is None or adopted is None or not naming.is_same(choice.version, step.version):
            raise CommitError(f"{self._handler}: storage no longer has version {step.version}")
        turn.tell(step.version, "its package is fetched")
        self._prepare("unpacker", "parser", COMMITTER, KIND)
        signature = adopted.bundle.of(_newest(turn, adopted).signature)
        must = self._.ordered.rule(self._handler, step.version, "install").signature_required
        offered = (choice.uris, choice.manifest_url, signature, must)
        with self._.events.download(self._handler, step.version):
            obtained = await self._.packages.obtain(self._handler, step.version, *offered)
        try:
            if turn.item.plugin.is_multi_config and not obtained.manifest.supports_multiple_extensions:
                raise NoVersion(
                    f"{self._handler}-{step.version} can't have several extensions: its manifest does not say "
                    "supportsMultipleExtensions, which the goal state wants"
                )
            folder = naming.folder_name(self._handler, step.version)
            await self._.packages.place(obtained, folder, KEPT)
        finally:
            obtained.close()
        self._known[step.version] = obtained.manifest
        self._.files.begin(self._handler, step.version)
        self._.files.note_state(folder, "NotInstalled")

    def _write_settings(self, step: WriteSettings, turn: Turn) -> None:
        adopted = turn.adopted()
        if adopted is None:
            return  # nothing follows on it
        item = turn.item
        found = next((each for each in _newest(turn, adopted).settings if item.extension in {"", each.name}), None)
        content = adopted.bundle.of(found.file) if found is not None else b""
        folder = naming.folder_name(self._handler, step.version)
        self._.files.begin(self._handler, step.version)
        self._.files.write_settings(folder, item.extension, item.sequence_number, content)

    def _prepare(self, *kinds: str) -> None:
        """Workers that are wanted in a moment, one of each; one that is wanted now is begun by its job."""
        for kind in kinds:
            self._.prepare(kind, 1)

    async def _load(self) -> None:
        """The manifests that the next step may need, as far as they can be had."""
        under_way = self._life.undertaking
        needed = {self._life.version} | ({under_way.source, under_way.target} if under_way is not None else set())
        for version in needed:
            if version and version not in self._known:
                try:
                    self._known[version] = await self._.manifests.of(self._handler, version)
                except CommitError as problem:
                    self._.ordered.note_missing(self._handler, version, str(problem))

    def _forget_what_is_gone(self) -> None:
        """Somebody has removed the folder of what is installed: then it is not."""
        life = self._life
        if life.version and life.undertaking is None and (self._handler, life.version) not in self._.files.folders():
            self._note(HandlerKept(self._handler, "", (), life.failed_upgrade))

    def _note(self, record: AnyExtensionRecord) -> None:
        self._.journal.append(record)

    def _record(self, decision: Decision, detail: str) -> None:
        under_way = self._life.undertaking
        if under_way is not None:
            what = f"{under_way.purpose} {naming.folder_name(self._handler, under_way.target)}"
            named = f"{what} {under_way.extension}".rstrip()
            self._.audit(Entry("extension", request=named, decision=decision, detail=detail))


def _stuck(handler: str, life: Life, known: Collection[str]) -> Finish | None:
    """The way on depends on a manifest that is there no more."""
    under_way = life.undertaking
    if under_way is None or not under_way.at or under_way.purpose != "enable" or under_way.target in known:
        return None
    folder = naming.folder_name(handler, under_way.target)
    return Finish(code=NO_MANIFEST, message=f"{folder} has no HandlerManifest.json that can be used any more")


def _denied(ordered: Ordered, handler: str, life: Life, step: Step) -> Outcome | None:
    """The policy is asked about the whole before anything is begun, since half an update would be worse than none, and
    before each step: it may have been another one when this was begun."""
    under_way = step.undertaking if isinstance(step, Begin) else life.undertaking
    if under_way is None or not (_begins(step) or isinstance(step, Remove)):
        return None
    ruling = ordered.refusal(handler, under_way)
    return Outcome(ruling.code, ruling.why, is_refused=True) if ruling is not None else None


def _is_for(life: Life, turn: Turn) -> bool:
    """Whether what is under way was begun for this turn."""
    return life.undertaking is not None and is_for(life.undertaking, turn.wanted)


def _begins(step: Step) -> bool:
    """Whether the step begins anything: what is to be written down of what has happened is not left."""
    return not isinstance(step, (Finish, Remove, Drop, Note)) and not (
        isinstance(step, Command) and step.run is not None
    )


def _newest(turn: Turn, adopted: Adopted) -> Plugin:
    """The plugin with the newest URLs, of the document that `adopted` has. CommitError when that names it no more."""
    own = turn.item.plugin
    for each in adopted.goal_state.plugins:
        if (each.name, each.version) == (own.name, own.version):
            return each
    raise CommitError(f"the goal state in force no longer names {own.name} {own.version}")
