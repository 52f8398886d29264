# SPDX-License-Identifier: Apache-2.0
"""Owns what is to be done next with a handler, so that the goal state comes true (extensions.md 8). Pure.

All that is known comes from the journal and the manifests: whoever asks again after a crash gets the same answer.
"""

from collections.abc import Collection, Iterator, Mapping

import msgspec
from msgspec.structs import replace

from ipc.messages.extension_documents import HandlerManifest, Version
from ipc.messages.extension_rules import HandlerVerb
from supervisor.extension_records import WITHDRAWN, AnyVersion, End, HandlerNoted, Life, Purpose, Run, Undertaking
from supervisor.extensions.naming import is_same, version_key

# extensions.md 8.
TIMEOUTS_S: dict[HandlerVerb, int] = {"install": 900, "update": 900, "enable": 300, "disable": 900, "uninstall": 300}
CODES: dict[HandlerVerb, int] = {"install": 1007, "update": 1008, "enable": 1009, "disable": 1010, "uninstall": 1000}
TIMED_OUT, OTHER = 1011, -1


class Wanted(msgspec.Struct, frozen=True):
    """What a goal state wants of one extension. `version` is empty as long as nobody has chosen it."""

    goal_state: str
    purpose: Purpose
    version: AnyVersion = ""
    extension: str = ""
    sequence_number: int | None = None
    is_multi_config: bool = False


class Step(msgspec.Struct, frozen=True):
    """One thing to do; `key` is its name within the undertaking."""

    key: str = ""


class Choose(Step, frozen=True):
    """Find out which version it is to be."""


class Begin(Step, frozen=True, kw_only=True):
    """Write down that this is begun."""

    undertaking: Undertaking


class Place(Step, frozen=True, kw_only=True):
    """Get the package of that version, and lay it down."""

    version: Version


class WriteSettings(Step, frozen=True, kw_only=True):
    """The settings of the extension, into that version's folder."""

    version: Version


class Command(Step, frozen=True, kw_only=True):
    """Run that command from the folder of `version`, or wait for it: `run` is the order that was given already.

    After a failure the undertaking ends with the code `fails_with`, 0 for the command's own, unless it is tolerated."""

    verb: HandlerVerb
    version: Version
    extension: str
    run: Run | None = None
    fails_with: int = 0
    tolerated: bool = False


class CarryOver(Step, frozen=True, kw_only=True):
    """Copy what an upgrade takes along."""

    source: Version
    target: Version


class Remove(Step, frozen=True, kw_only=True):
    """Remove the folder of that version, then write down that it is gone."""

    version: Version


class Drop(Step, frozen=True, kw_only=True):
    """Remove one extension's files, then write down that it is no longer enabled."""

    version: Version
    extension: str


class Note(Step, frozen=True, kw_only=True):
    """Write down that `version` is installed: its update has done it."""

    version: Version


class Finish(Step, frozen=True, kw_only=True):
    """Write down how it ended. `failed_upgrade`: the version whose update has failed."""

    code: int = 0
    message: str = ""
    failed_upgrade: AnyVersion = ""


class Ended(Step, frozen=True, kw_only=True):
    """Nothing is to be done: so it has ended."""

    end: End


def next_step(
    wanted: Wanted, life: Life, boot: str, manifests: Mapping[str, HandlerManifest], done: Collection[str] = ()
) -> Step:
    """The next step. `manifests` are those of the folders that are placed, by version; `done` are the steps that this
    process has done and that leave no record, by their keys.

    What an earlier goal state has begun is given up, but a command that was ordered is always waited for."""
    under_way = life.undertaking
    if under_way is not None:
        step = _next_of(under_way, life, boot, manifests, done)
        if is_for(under_way, wanted) or (isinstance(step, Command) and step.run is not None):
            return step
        if isinstance(step, (Remove, Drop, Note)):
            return step
    ended = _ended(wanted, life, boot)
    if ended is not None:
        return Ended(end=ended)
    if wanted.purpose == "enable" and not wanted.version:
        return Choose()
    return Begin(undertaking=_undertaking(wanted, life))


def noted(step: Step, handler: str, life: Life) -> HandlerNoted:
    """What is to be written down after a Remove, Drop or Note."""
    if isinstance(step, Drop):
        left = tuple(name for name in life.enabled if name != step.extension)
        return HandlerNoted(handler, step.key, life.version, left, life.failed_upgrade)
    return HandlerNoted(handler, step.key, step.version if isinstance(step, Note) else "", ())


def is_for(under_way: Undertaking, wanted: Wanted) -> bool:
    """Whether it was begun for that, and not for an earlier goal state."""
    return (under_way.goal_state, under_way.purpose, under_way.extension, under_way.sequence_number) == (
        wanted.goal_state,
        wanted.purpose,
        wanted.extension,
        wanted.sequence_number,
    )


def _ended(wanted: Wanted, life: Life, boot: str) -> End | None:
    """How what is wanted has ended, in this goal state, if it has."""
    end = life.ends.get(wanted.extension)
    if end is not None and (end.goal_state, end.purpose) == (wanted.goal_state, wanted.purpose):
        # An extension that reboots the machine in its enable goes on there: vendors depend on it.
        is_due = wanted.purpose == "enable" and end.boot != boot and bool(life.version)
        return None if is_due and is_same(life.version, end.target) else end
    if wanted.purpose != "enable":
        return None
    # What has failed for one of a handler's extensions, before it was the extension's own turn, is not tried for each.
    return next((each for each in life.ends.values() if _is_in_the_way(each, wanted, life)), None)


def _is_in_the_way(end: End, wanted: Wanted, life: Life) -> bool:
    return (
        bool(end.code)
        and (end.goal_state, end.purpose) == (wanted.goal_state, "enable")
        and not is_same(life.version, end.target)
    )


def _undertaking(wanted: Wanted, life: Life) -> Undertaking:
    target = wanted.version if wanted.purpose == "enable" else life.version
    return Undertaking(
        wanted.goal_state,
        wanted.purpose,
        wanted.extension,
        wanted.sequence_number,
        source=life.version,
        # Where the two are written differently the folder that is there has the say.
        target=life.version if is_same(life.version, target) else target,
        disables=life.enabled,
        is_multi_config=wanted.is_multi_config,
    )


def _next_of(
    under_way: Undertaking, life: Life, boot: str, manifests: Mapping[str, HandlerManifest], done: Collection[str]
) -> Step:
    reached = not under_way.at
    for step in _plan(under_way, life, manifests):
        if reached:
            if step.key not in done:
                return step
        elif step.key == under_way.at:
            reached = True
            if isinstance(step, Command) and (then := _after(step, under_way, boot)) is not None:
                return then
    return Finish()


def _after(step: Command, under_way: Undertaking, boot: str) -> Step | None:
    """What follows on a command that was ordered; None: the next step of the plan."""
    run = next(each for each in reversed(under_way.runs) if each.step == step.key)
    if not run.ended:
        return replace(step, run=run)
    if run.lost and run.verb == "enable" and run.boot != boot:
        return step
    if not run.code or (step.tolerated and run.exit_text != WITHDRAWN):
        return None
    failed = under_way.target if run.verb == "update" else ""
    return Finish(code=step.fails_with or run.code, message=run.message, failed_upgrade=failed)


def _plan(under_way: Undertaking, life: Life, manifests: Mapping[str, HandlerManifest]) -> Iterator[Step]:
    """All its steps. The manifest of a version is looked at only behind the step that places it."""
    if under_way.purpose == "enable":
        yield from _enabling(under_way, manifests)
    elif not under_way.source:
        return
    elif under_way.purpose == "disable-one":
        extension = under_way.extension
        if extension in under_way.disables:
            yield _disabling(under_way, extension, tolerated=True)
        yield Drop("drop", version=under_way.source, extension=extension)
    else:
        for extension in under_way.disables:
            # What is to be removed goes, whether its commands succeed or not.
            yield _disabling(under_way, extension, tolerated=under_way.purpose == "uninstall")
        if under_way.purpose == "uninstall":
            own = under_way.extension
            yield Command("uninstall", verb="uninstall", version=under_way.source, extension=own, tolerated=True)
            yield Remove("remove", version=under_way.source)


def _enabling(under_way: Undertaking, manifests: Mapping[str, HandlerManifest]) -> Iterator[Step]:
    source, target, own = under_way.source, under_way.target, under_way.extension
    if source != target:
        yield Place("place", version=target)
    yield WriteSettings("settings", version=target)
    if source and source != target:
        yield from _changing(under_way, manifests[target])
    if source != target:
        if not source or manifests[target].installs_after_update:
            yield Command("install", verb="install", version=target, extension=own)
        else:
            yield Note("installed", version=target)
    yield Command("enable", verb="enable", version=target, extension=own)


def _changing(under_way: Undertaking, manifest: HandlerManifest) -> Iterator[Step]:
    """From one version to another; the target's manifest says whether the old one's failures count."""
    source, target, own = under_way.source, under_way.target, under_way.extension
    tolerated = manifest.continues_on_update_failure
    for extension in under_way.disables:
        yield _disabling(under_way, extension, fails_with=CODES["update"], tolerated=tolerated)
    yield CarryOver("carry-over", source=source, target=target)
    # A version that is older than the one it follows does not know how to make itself of that.
    updates = target if version_key(target) > version_key(source) else source
    yield Command("update", verb="update", version=updates, extension=own)
    yield Command(
        "uninstall",
        verb="uninstall",
        version=source,
        extension=own,
        fails_with=CODES["update"],
        tolerated=tolerated,
    )
    yield Remove("remove", version=source)


def _disabling(under_way: Undertaking, extension: str, *, fails_with: int = 0, tolerated: bool = False) -> Command:
    key = f"disable {extension}" if extension else "disable"
    version = under_way.source
    return Command(
        key, verb="disable", version=version, extension=extension, fails_with=fails_with, tolerated=tolerated
    )
