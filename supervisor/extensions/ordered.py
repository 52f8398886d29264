# SPDX-License-Identifier: Apache-2.0
"""Owns a handler's command from its intent to its outcome, both in the journal: ordered once, waited for, told.

Runs in the supervisor. It must never order what is not written down, nor anything twice.
"""

from collections.abc import Callable, Mapping

import msgspec

from ipc.messages import HandlerManifest
from ipc.messages.extension_rules import HandlerVerb
from supervisor.audit_log_entry import Audit, Decision, Entry
from supervisor.clock import Clock
from supervisor.extension_records import (
    MOST_CHARACTERS,
    NEVER_RAN,
    WITHDRAWN,
    CommandEnded,
    CommandIntended,
    Life,
    Run,
    Undertaking,
)
from supervisor.extensions import naming
from supervisor.extensions.commands import Commands, Order, Result
from supervisor.extensions.environment import environment, sequence_number
from supervisor.extensions.files import HandlerFiles
from supervisor.extensions.next_step import CODES, TIMED_OUT, TIMEOUTS_S, Command
from supervisor.extensions.operations import VERBS, operations
from supervisor.extensions.ruling import Ruling, service_limits, with_host, within
from supervisor.journal import Journal

Rule = Callable[[str, str, HandlerVerb], Ruling]
CUT = " ... [TRUNCATED]"
LOST = "-1"


class _Ended(msgspec.Struct, frozen=True):
    """What came of a command."""

    code: int = 0
    exit_text: str = NEVER_RAN
    lost: bool = False
    message: str = ""
    seconds: float = 0.0


class Ordering(msgspec.Struct, frozen=True):
    """What commands are ordered with. `has_key` is asked whether this VM has a certificate; `clean` takes secrets out
    of a text; `ended` is told of each command that has come to its end: whose, with code and text, after how long."""

    journal: Journal
    commands: Commands
    files: HandlerFiles
    rule: Rule
    has_key: Callable[[str], bool]
    clean: Callable[[str], str]
    audit: Audit
    host: str
    boot: str
    ended: Callable[[str, Run, float], None]
    clock: Clock


class Ordered:
    """The commands of all handlers. `rule` rules on an operation."""

    def __init__(self, ordering: Ordering) -> None:
        self._ = ordering
        self.rule = ordering.rule
        self._missing: dict[tuple[str, str], str] = {}

    def note_missing(self, handler: str, version: str, problem: str) -> None:
        """Why the manifest of that version can't be had."""
        self._missing[handler, version] = problem

    def refusal(self, handler: str, under_way: Undertaking) -> Ruling | None:
        """The first ruling against what the undertaking consists of; None if there is none."""
        rulings = (self.rule(handler, under_way.target, verb) for verb in operations(under_way))
        return next((ruling for ruling in rulings if not ruling.allowed), None)

    async def carry_out(
        self,
        handler: str,
        step: Command,
        manifests: Mapping[str, HandlerManifest],
        thumbprint: str,
        withdrawn: str = "",
    ) -> None:
        """Once, to its end, and written down. AgentError when that is not known: it is found again by its number.

        `withdrawn`: why it is not to be begun any more, though it is written down; if it was begun, it is waited for.
        """
        run = step.run or self._intend(handler, step)
        manifest = manifests.get(step.version)
        against = self._against(handler, step, run, manifest, withdrawn)
        if against is not None or manifest is None:
            ended = await self._left(handler, step, run, manifest, against or _Ended())
        else:
            ended = await self._end_of(handler, step, run, manifest, thumbprint)
        said, at = self._bounded(ended.message), self._.clock.wall()
        self._.journal.append(CommandEnded(handler, run.number, ended.code, ended.exit_text, ended.lost, said, at))
        self._record("failed" if ended.code else "done", handler, run, ended.message)
        settled = msgspec.structs.replace(
            run, ended=True, code=ended.code, exit_text=ended.exit_text, lost=ended.lost, message=said, at=at
        )
        self._.ended(handler, settled, ended.seconds)
        if not ended.code:
            self._note_states(handler, run)

    def _intend(self, handler: str, step: Command) -> Run:
        # A journal that was lost has left its commands behind.
        number = max(self._.journal.state.extensions.last_number, self._.commands.highest()) + 1
        run = Run(number, step.key, step.verb, step.version, step.extension, self._.boot)
        self._.journal.append(CommandIntended(handler, run))
        self._record("intended", handler, run, "")
        return run

    def _against(
        self, handler: str, step: Command, run: Run, manifest: HandlerManifest | None, withdrawn: str
    ) -> _Ended | None:
        """Why the command is not begun now, as what came of it; None if nothing is in its way."""
        what = f"{step.verb} of {naming.folder_name(handler, step.version)}"
        if run.boot != self._.boot:
            text = f"{what}: the machine went down while it ran; how it ended is lost"
            return _Ended(CODES[step.verb], LOST, lost=True, message=text)
        if withdrawn:
            return _Ended(CODES[step.verb], WITHDRAWN, message=f"{what} was not run: {withdrawn}")
        if (refusal := self.refusal(handler, _under_way(self._.journal.state.extensions.of(handler)))) is not None:
            return _Ended(refusal.code, WITHDRAWN, message=refusal.why)
        if manifest is None:
            problem = self._missing.get((handler, step.version), "it has no HandlerManifest.json")
            return _Ended(CODES[step.verb], message=f"{what} was not run: {problem}")
        return None if getattr(manifest, step.verb) else _Ended()

    async def _left(
        self, handler: str, step: Command, run: Run, manifest: HandlerManifest | None, against: _Ended
    ) -> _Ended:
        """How a command has ended that may have begun before there was something against it."""
        if step.run is None or run.boot != self._.boot:
            return against
        result = await self._.commands.find(self._order(handler, step, run, manifest))
        folder = naming.folder_name(handler, step.version)
        return against if result is None else _ended(f"{step.verb} of {folder}", step.verb, result)

    async def _end_of(
        self, handler: str, step: Command, run: Run, manifest: HandlerManifest, thumbprint: str
    ) -> _Ended:
        folder = naming.folder_name(handler, step.version)
        life = self._.journal.state.extensions.of(handler)
        ruling = self.rule(handler, step.version, VERBS[_under_way(life).purpose])
        # What goes does not need the key of what comes.
        needs_key = step.verb in {"install", "enable", "update"} or self._.has_key(thumbprint)
        order = msgspec.structs.replace(
            self._order(handler, step, run, manifest),
            thumbprint=thumbprint if needs_key else "",
            handler_class=ruling.handler_class,
            limits=within(ruling.limits, manifest.cpu_percent, manifest.memory_mib),
            without=ruling.without,
            network=ruling.network,
            outbound=with_host(ruling, self._.host),
            services=service_limits(ruling, manifest, step.verb),
        )
        result = await self._.commands.run(order)
        return _ended(f"{step.verb} of {folder}", step.verb, result)

    def _order(self, handler: str, step: Command, run: Run, manifest: HandlerManifest | None) -> Order:
        """As far as the goal state and the folders say; without a line where nobody knows it any more."""
        life = self._.journal.state.extensions.of(handler)
        under_way = _under_way(life)
        line: str = getattr(manifest, step.verb, "")
        base = self._.files.base(handler, step.version)
        versions = {step.version, under_way.source, under_way.target} - {""}
        return Order(
            run.number,
            handler,
            step.version,
            step.extension,
            sequence_number(step, under_way, life.ends) or 0,
            step.verb,
            f"{base}/{line}" if line else "",
            TIMEOUTS_S[step.verb],
            environment(step, under_way, life.ends, base, self._.host),
            base,
            tuple(sorted(naming.folder_name(handler, each) for each in versions)),
        )

    def _note_states(self, handler: str, run: Run) -> None:
        """For others to read, in the handler's own folder; the journal is what counts."""
        life = self._.journal.state.extensions.of(handler)
        state = "Enabled" if life.enabled else "Installed"
        if run.verb in {"install", "enable", "disable"}:
            folder = naming.folder_name(handler, run.version)
            self._.files.note_state(folder, state)
            if run.extension and run.verb != "install":
                self._.files.note_state(folder, f"{run.verb}d", run.extension)

    def _bounded(self, text: str) -> str:
        cleaned = self._.clean(text)
        return cleaned if len(cleaned) <= MOST_CHARACTERS else f"{cleaned[: MOST_CHARACTERS - len(CUT)]}{CUT}"

    def _record(self, decision: Decision, handler: str, run: Run, detail: str) -> None:
        what = f"{run.verb} {naming.folder_name(handler, run.version)} {run.extension}".rstrip()
        told = f"command {run.number}{f': {detail}' if detail else ''}"
        self._.audit(Entry("extension", request=what, decision=decision, detail=told))


def _under_way(life: Life) -> Undertaking:
    if life.undertaking is None:
        raise ValueError("a command belongs to an undertaking")
    return life.undertaking


def _ended(what: str, verb: HandlerVerb, result: Result) -> _Ended:
    if result.lost:
        return _Ended(result.code or CODES[verb], LOST, lost=True, message=f"{what}: {result.output}")
    if result.timed_out:
        text = f"{what} did not end within {TIMEOUTS_S[verb]} s and was killed: {result.output}"
        return _Ended(TIMED_OUT, str(TIMED_OUT), message=text, seconds=result.seconds)
    if result.exit_code is None:
        return _Ended(CODES[verb], LOST, message=f"{what} could not be started: {result.output}")
    if result.exit_code:
        how = f"exits with {result.exit_code}" if result.exit_code > 0 else f"was ended by signal {-result.exit_code}"
        text = f"{what} {how}: {result.output}"
        return _Ended(result.code or CODES[verb], str(result.exit_code), message=text, seconds=result.seconds)
    return _Ended(0, "0", seconds=result.seconds)
