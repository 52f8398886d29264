# SPDX-License-Identifier: Apache-2.0
"""Owns the journal's records of extensions: what is installed, what is being done to it, which commands were ordered
and what came of them; used by the supervisor alone. Pure.

A command's number is never given twice. No setting is in a record.
"""

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec.structs import replace

from ipc.errors import StateError
from ipc.messages.extension_documents import Version
from ipc.messages.extension_rules import HandlerVerb
from ipc.messages.handler_commands import Number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.records import State

Handler = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Extension = Annotated[str, msgspec.Meta(max_length=128)]
AnyVersion = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,9}(\.[0-9]{1,9}){0,3})?\Z")]
# A goal state has no more extensions of one handler.
MOST_NAMES = 64
Names = Annotated[tuple[Extension, ...], msgspec.Meta(max_length=MOST_NAMES)]
Key = Annotated[str, msgspec.Meta(max_length=160)]
Boot = Annotated[str, msgspec.Meta(max_length=64)]
# As much as is told of a command's end after a restart of the agent; its whole output is in the handler's own log.
MOST_CHARACTERS = 1024
Text = Annotated[str, msgspec.Meta(max_length=MOST_CHARACTERS)]
Purpose = Literal["enable", "disable", "disable-one", "uninstall"]
NEVER_RAN = "NOT_RUN"
# Of a command that is not to be begun any more: what it belongs to ends with it.
WITHDRAWN = "WITHDRAWN"


class Run(msgspec.Struct, frozen=True):
    """One command of an undertaking, ordered as `number` in the boot `boot`: at which step, of which version's folder
    and for which extension. `code` is 0 or that of its failure; `exit_text` is for those commands that are told of it;
    it ended `at` (wall seconds, 0 where nobody has noted it)."""

    number: Number
    step: Key
    verb: HandlerVerb
    version: Version
    extension: Extension
    boot: Boot
    ended: bool = False
    code: int = 0
    exit_text: Annotated[str, msgspec.Meta(max_length=16)] = NEVER_RAN
    lost: bool = False
    message: Text = ""
    at: float = 0.0


class Undertaking(msgspec.Struct, frozen=True):
    """What is being done to a handler for one extension, because `goal_state` wants it: from the version `source`,
    empty for none, to `target`. `disables` are the extensions that were enabled at its beginning.

    `at` is the last step that has begun; those before it are over."""

    goal_state: Key
    purpose: Purpose
    extension: Extension
    sequence_number: int | None
    source: AnyVersion
    target: AnyVersion
    disables: Names = ()
    is_multi_config: bool = False
    at: Key = ""
    runs: Annotated[tuple[Run, ...], msgspec.Meta(max_length=256)] = ()


class Last(msgspec.Struct, frozen=True):
    """Which command was the last one, how it ended and when: as Run has them."""

    verb: HandlerVerb
    code: int
    at: float


class End(msgspec.Struct, frozen=True):
    """How the last undertaking for an extension ended, in the boot `boot`; `target` is the version that it was for, and
    `last` its last command, None where it had none."""

    goal_state: Key
    purpose: Purpose
    sequence_number: int | None
    target: AnyVersion
    boot: Boot
    code: int
    message: Text
    last: Last | None = None


class Waiting(msgspec.Struct, frozen=True):
    """Since when those of a goal state that depend on others wait: `monotonic_s` in the boot `boot`, which was `wall_s`
    by the wall clock. `spent_s` is what they had waited before that boot."""

    goal_state: Key
    boot: Boot
    monotonic_s: float
    wall_s: float
    spent_s: float = 0.0


class Life(msgspec.Struct, frozen=True):
    """A handler: the version that is installed, empty for none, with the extensions that are enabled. A handler that
    has a single one has it by the name "". `ends` are by extension."""

    version: AnyVersion = ""
    enabled: tuple[Extension, ...] = ()
    failed_upgrade: AnyVersion = ""
    undertaking: Undertaking | None = None
    ends: dict[Extension, End] = {}


class Extensions(msgspec.Struct, frozen=True):
    """All handlers, by name, the last number that a command has had, and since when any wait for others."""

    handlers: dict[str, Life] = {}
    last_number: int = 0
    waiting: Waiting | None = None

    def of(self, handler: str) -> Life:
        """The handler's, also of one that was never heard of."""
        return self.handlers.get(handler, NOT_KNOWN)

    def records(self) -> "tuple[AnyExtensionRecord, ...]":
        """The fewest records that add up to this."""
        numbered = (NumbersGiven(self.last_number),) if self.last_number else ()
        waiting = (WaitBegun(self.waiting),) if self.waiting is not None else ()
        return (
            *numbered,
            *waiting,
            *(record for name, life in self.handlers.items() for record in _of_life(name, life)),
        )


NOT_KNOWN = Life()


class ExtensionRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of these records."""

    def after(self, state: "State") -> "State":
        """The journal's state when this record follows on `state`; StateError if it can't."""
        return replace(state, extensions=self.on(state.extensions))

    def on(self, known: Extensions) -> Extensions:
        """What is known when this record follows; StateError if it can't. This base changes nothing."""
        return known


class NumbersGiven(ExtensionRecord, frozen=True):
    """Commands up to that number were ordered."""

    last_number: Number

    def on(self, known: Extensions) -> Extensions:
        return replace(known, last_number=max(known.last_number, self.last_number))


class WaitBegun(ExtensionRecord, frozen=True):
    """From then on, for another goal state than before or in another boot."""

    waiting: Waiting

    def on(self, known: Extensions) -> Extensions:
        return replace(known, waiting=self.waiting)


class _OfHandler(ExtensionRecord, frozen=True):
    handler: Handler

    def on(self, known: Extensions) -> Extensions:
        return replace(known, handlers={**known.handlers, self.handler: self.next(known.of(self.handler))})

    def next(self, life: Life) -> Life:
        return life


class HandlerKept(_OfHandler, frozen=True):
    """What is installed and enabled: compaction writes it, and it is what an earlier agent has left."""

    version: AnyVersion
    enabled: Names
    failed_upgrade: AnyVersion = ""

    def next(self, life: Life) -> Life:
        return Life(self.version, self.enabled, self.failed_upgrade)


class EndKept(_OfHandler, frozen=True):
    """How an undertaking has ended, as compaction writes it."""

    extension: Extension
    end: End

    def next(self, life: Life) -> Life:
        return replace(life, ends={**life.ends, self.extension: self.end})


class RunKept(_OfHandler, frozen=True):
    """A command of the undertaking that has begun, as compaction writes it."""

    run: Run

    def next(self, life: Life) -> Life:
        undertaking = _under_way(life, self.handler)
        return replace(life, undertaking=replace(undertaking, runs=(*undertaking.runs, self.run)))


class HandlerGone(ExtensionRecord, frozen=True):
    """Nothing of it is left, and no goal state names it."""

    handler: Handler

    def on(self, known: Extensions) -> Extensions:
        return replace(known, handlers={name: life for name, life in known.handlers.items() if name != self.handler})


class EndsForgotten(_OfHandler, frozen=True):
    """No goal state names these extensions any more."""

    extensions: Names

    def next(self, life: Life) -> Life:
        return replace(life, ends={name: end for name, end in life.ends.items() if name not in self.extensions})


class UndertakingBegun(_OfHandler, frozen=True):
    """It is begun; one that was begun before it and did not end is given up."""

    undertaking: Undertaking

    def next(self, life: Life) -> Life:
        return replace(life, undertaking=self.undertaking)


class CommandIntended(_OfHandler, frozen=True):
    """The command is about to be ordered."""

    run: Run

    def on(self, known: Extensions) -> Extensions:
        if self.run.number <= known.last_number:
            raise StateError(f"command {self.run.number} of {self.handler} was ordered before")
        return replace(_OfHandler.on(self, known), last_number=self.run.number)

    def next(self, life: Life) -> Life:
        undertaking = _under_way(life, self.handler)
        return replace(life, undertaking=replace(undertaking, at=self.run.step, runs=(*undertaking.runs, self.run)))


class CommandEnded(_OfHandler, frozen=True):
    """What came of it, once and for all. A success changes what is installed or enabled."""

    number: Number
    code: int
    exit_text: Annotated[str, msgspec.Meta(max_length=16)] = NEVER_RAN
    lost: bool = False
    message: Text = ""
    at: float = 0.0

    def next(self, life: Life) -> Life:
        undertaking = _under_way(life, self.handler)
        run = next((each for each in undertaking.runs if each.number == self.number and not each.ended), None)
        if run is None:
            raise StateError(f"command {self.number} of {self.handler} has ended, but this was never under way")
        ended = replace(
            run,
            ended=True,
            code=self.code,
            exit_text=self.exit_text,
            lost=self.lost,
            message=self.message,
            at=self.at,
        )
        runs = tuple(ended if each.number == self.number else each for each in undertaking.runs)
        return _changed(replace(life, undertaking=replace(undertaking, runs=runs)), ended)


class HandlerNoted(_OfHandler, frozen=True):
    """What is installed and enabled has become this by another way than a command's success; the step `at` is over."""

    at: Key
    version: AnyVersion
    enabled: Names
    failed_upgrade: AnyVersion = ""

    def next(self, life: Life) -> Life:
        undertaking = replace(_under_way(life, self.handler), at=self.at)
        return replace(
            life,
            version=self.version,
            enabled=self.enabled,
            failed_upgrade=self.failed_upgrade,
            undertaking=undertaking,
        )


class UndertakingEnded(_OfHandler, frozen=True):
    """It has come to its end, with that code. `failed_upgrade`: the version that was not come to."""

    boot: Boot
    code: int
    message: Text
    failed_upgrade: AnyVersion = ""

    def next(self, life: Life) -> Life:
        was = _under_way(life, self.handler)
        # Each extension has one for good, so that it is short in bytes, too.
        message = self.message.encode()[:MOST_CHARACTERS].decode(errors="ignore")
        last = next((Last(run.verb, run.code, run.at) for run in reversed(was.runs) if run.ended), None)
        end = End(was.goal_state, was.purpose, was.sequence_number, was.target, self.boot, self.code, message, last)
        failed = self.failed_upgrade or life.failed_upgrade
        # What is uninstalled is so with all its extensions.
        others = {} if was.purpose == "uninstall" and not self.code else life.ends
        return replace(life, undertaking=None, failed_upgrade=failed, ends={**others, was.extension: end})


AnyExtensionRecord = (
    NumbersGiven
    | WaitBegun
    | HandlerKept
    | EndKept
    | RunKept
    | EndsForgotten
    | HandlerGone
    | UndertakingBegun
    | CommandIntended
    | CommandEnded
    | HandlerNoted
    | UndertakingEnded
)


def _of_life(handler: str, life: Life) -> "Iterator[AnyExtensionRecord]":
    yield HandlerKept(handler, life.version, life.enabled, life.failed_upgrade)
    for extension, end in life.ends.items():
        yield EndKept(handler, extension, end)
    if life.undertaking is not None:
        yield UndertakingBegun(handler, replace(life.undertaking, runs=()))
        for run in life.undertaking.runs:
            yield RunKept(handler, run)


def _under_way(life: Life, handler: str) -> Undertaking:
    if life.undertaking is None:
        raise StateError(f"nothing is being done to {handler}")
    return life.undertaking


def _changed(life: Life, run: Run) -> Life:
    """What a command's success makes of it."""
    if run.code:
        return life
    if run.verb == "install":
        return replace(life, version=run.version, enabled=(), failed_upgrade="")
    if run.verb == "enable":
        return replace(life, enabled=tuple(dict.fromkeys((*life.enabled, run.extension)))[-MOST_NAMES:])
    if run.verb == "disable":
        return replace(life, enabled=tuple(name for name in life.enabled if name != run.extension))
    if run.verb == "uninstall":
        return replace(life, version="", enabled=())
    return life
