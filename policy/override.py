# SPDX-License-Identifier: Apache-2.0
"""Owns the merging of override files into the shipped profiles, in the order of their names.

Pure; used by the sealed compiler and the command line. Whether a result is looser is not judged here (policy.reach).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from ipc.errors import ConfigError
from ipc.messages.extension_rules import ExtensionRule
from ipc.messages.grants import WireGrant
from policy import extension_rules, misfit
from policy.grants import faults
from policy.groups import CallGroup, stages
from policy.level import Level, higher, required
from policy.override_file import FOLDER, GRANTS, Change, Override, read_override
from policy.path_reach import covers
from policy.profile import Calls, Families, Lifetime, Limits, PathGrant, Profile, Request

T = TypeVar("T")
P = TypeVar("P", bound=msgspec.Struct)
Groups = Mapping[str, CallGroup]
Profiles = dict[str, Profile]


class Merged(msgspec.Struct, frozen=True):
    """The shipped profiles as the overrides leave them, what all files together demand of the machine, what they grant
    of the WireServer, and what they say of vendors' extensions."""

    profiles: tuple[Profile, ...]
    min_level: Level
    required: tuple[str, ...]
    wireserver: tuple[WireGrant, ...] = ()
    extensions: tuple[ExtensionRule, ...] = ()


class _Unusable(Exception):
    """What is wrong with a change, without file and kind."""


def merge(shipped: Iterable[Profile], groups: Groups, overrides: Mapping[str, bytes]) -> Merged:
    """`overrides` are file names and contents; each file sees what the ones before it left.

    ConfigError names file, kind, key and what was expected; then none of them counts."""
    profiles = {profile.kind: profile for profile in shipped}
    level: Level = "basic"
    mechanisms: set[str] = set()
    grants: list[WireGrant] = []
    rules: list[ExtensionRule] = []
    for name, content in sorted(overrides.items()):
        override = read_override(name, content)
        level = higher(level, override.demands.min_level)
        mechanisms.update(override.demands.require)
        _apply(name, override, profiles, groups)
        grants += override.wireserver
        rules += (ExtensionRule(**msgspec.structs.asdict(rule), file=name) for rule in override.extensions)
        _refuse(name, extension_rules.EXTENSIONS, extension_rules.faults(rules))
        grants += extension_rules.grants(override.extensions)
        _refuse(name, GRANTS, faults(grants))
    return Merged(tuple(profiles.values()), level, required(level, mechanisms), tuple(grants), tuple(rules))


def _refuse(name: str, table: str, faults_found: Iterable[str]) -> None:
    for fault in faults_found:
        raise ConfigError(f"{FOLDER}/{name}", f"[[{table}]] {fault}")


def _apply(name: str, override: Override, profiles: Profiles, groups: Groups) -> None:
    for kind, change in override.changes.items():
        source = f"{FOLDER}/{name}"
        if kind not in profiles:
            raise ConfigError(source, f"[{kind}]: there is no such kind; there are {', '.join(sorted(profiles))}")
        try:
            for step in (_remove, _grant, _set):
                profiles[kind] = step(profiles[kind], _Told(change, name), profiles, groups)
        except _Unusable as problem:
            raise ConfigError(source, f"[{kind}] {problem}") from None


class _Told(msgspec.Struct, frozen=True):
    """A change, and the file that it stands in."""

    change: Change
    file: str

    def why(self, before: str) -> str:
        """The reason for a value that was changed: what was said of it, and what the file says."""
        return f"{before} Changed by {self.file}: {self.change.why}"


def _remove(profile: Profile, told: _Told, profiles: Profiles, groups: Groups) -> Profile:
    gone = told.change.remove
    profile = _without_calls(profile, told, profiles, groups)
    families = _less("families", profile.families.names, gone.families, str)
    return msgspec.structs.replace(
        profile,
        capabilities=_less("capabilities", profile.capabilities, gone.capabilities, lambda one: one.name),
        start_capabilities=_less(
            "start_capabilities", profile.start_capabilities, gone.start_capabilities, lambda one: one.name
        ),
        paths=_without_paths(profile, gone.paths),
        requests=_without_requests(profile, gone.requests),
        runs=_less("runs", profile.runs, gone.runs, lambda one: one.name),
        families=_changed(profile.families, told, names=families) if gone.families else profile.families,
    )


def _less(key: str, granted: tuple[T, ...], gone: Iterable[str], name_of: Callable[[T], str]) -> tuple[T, ...]:
    names = [name_of(one) for one in granted]
    for name in gone:
        if name not in names:
            raise _Unusable(f"remove.{key}: {name} is not granted; granted: {', '.join(names) or 'nothing'}")
    return tuple(one for one in granted if name_of(one) not in gone)


def _without_paths(profile: Profile, gone: tuple[str, ...]) -> tuple[PathGrant, ...]:
    for path in gone:
        above = [grant.path for grant in profile.paths if grant.path != path and covers(grant.path, path)]
        if above and path not in {grant.path for grant in profile.paths}:
            raise _Unusable(
                f"remove.paths: {path} is only a part of {above[-1]}, and no part can be taken out of a grant: "
                f"remove {above[-1]} and grant those parts of it that are needed, or hide {path} if it is a folder"
            )
    return _less("paths", profile.paths, gone, lambda grant: grant.path)


def _without_requests(profile: Profile, gone: tuple[str, ...]) -> tuple[Request, ...]:
    left = profile.requests
    for name in gone:
        kept = tuple(row for row in left if name not in {row.message, f"{row.message} in {row.phase}"})
        if kept == left:
            rows = ", ".join(f"{row.message} in {row.phase}" for row in profile.requests)
            raise _Unusable(f"remove.requests: {name} is not granted; granted: {rows or 'nothing'}")
        left = kept
    return left


def _without_calls(profile: Profile, told: _Told, profiles: Profiles, groups: Groups) -> Profile:
    gone = told.change.remove
    startup, locked = stages(profile, profiles.values(), groups)
    for key, names, reachable in (
        ("calls", gone.calls, startup.reachable | locked.reachable),
        ("locked_calls", gone.locked_calls, locked.reachable),
    ):
        for name in sorted(set(names) - reachable):
            raise _Unusable(f"remove.{key}: {name} is not among its system calls")
    return msgspec.structs.replace(
        profile,
        startup_calls=_calls(profile.startup_calls, told, gone.calls),
        locked_calls=_calls(profile.locked_calls, told, (*gone.calls, *gone.locked_calls)),
    )


def _calls(calls: Calls, told: _Told, gone: tuple[str, ...]) -> Calls:
    return _changed(calls, told, without=tuple(sorted({*calls.without, *gone}))) if gone else calls


def _grant(profile: Profile, told: _Told, profiles: Profiles, groups: Groups) -> Profile:
    given = told.change.grant
    _refuse_twice("capabilities", [one.name for one in (*profile.capabilities, *given.capabilities)])
    _refuse_twice("paths", [one.path for one in (*profile.paths, *given.paths)])
    _refuse_twice("requests", [f"{one.message} in {one.phase}" for one in (*profile.requests, *given.requests)])
    _refuse_twice("runs", [one.name for one in (*profile.runs, *given.runs)])
    _refuse_twice("families", [*profile.families.names, *(one.name for one in given.families)])
    profile = _with_calls(profile, told, profiles, groups)
    if given.families:
        names = (*profile.families.names, *(one.name for one in given.families))
        said = " ".join((profile.families.why, *(one.why for one in given.families)))
        families: Families = msgspec.structs.replace(profile.families, names=names, why=said)
        profile = msgspec.structs.replace(profile, families=families)
    return msgspec.structs.replace(
        profile,
        capabilities=(*profile.capabilities, *given.capabilities),
        paths=(*profile.paths, *given.paths),
        requests=(*profile.requests, *given.requests),
        runs=(*profile.runs, *given.runs),
    )


def _refuse_twice(key: str, names: list[str]) -> None:
    for name in sorted({name for name in names if names.count(name) > 1}):
        raise _Unusable(f"grant.{key}: {name} is granted already")


def _with_calls(profile: Profile, told: _Told, profiles: Profiles, groups: Groups) -> Profile:
    given = tuple(call.name for call in told.change.grant.calls)
    both = frozenset[str].intersection(*(stage.allowed for stage in stages(profile, profiles.values(), groups)))
    _refuse_twice("calls", [*both, *given])
    for key in ("startup_calls", "locked_calls") if given else ():
        calls: Calls = getattr(profile, key)
        kept = tuple(name for name in calls.without if name not in given)
        said = " ".join((calls.why, *(call.why for call in told.change.grant.calls)))
        calls = msgspec.structs.replace(calls, names=(*calls.names, *given), without=kept, why=said)
        profile = msgspec.structs.replace(profile, **{key: calls})
    return profile


def _set(profile: Profile, told: _Told, *_: object) -> Profile:
    """New values, hidden folders, more namespaces."""
    change = told.change
    if change.limits:
        profile = msgspec.structs.replace(
            profile, limits=_with_values(profile.limits, told, "limits", change.limits, Limits)
        )
    if change.lifetime:
        lifetime = _with_values(profile.lifetime, told, "lifetime", change.lifetime, Lifetime)
        profile = msgspec.structs.replace(profile, lifetime=lifetime)
    if change.namespaces:
        new = (*profile.namespaces.new, *(name for name in change.namespaces if name not in profile.namespaces.new))
        profile = msgspec.structs.replace(profile, namespaces=_changed(profile.namespaces, told, new=new))
    return msgspec.structs.replace(profile, hidden=tuple(dict.fromkeys((*profile.hidden, *change.hide))))


def _with_values(part: P, told: _Told, key: str, values: Mapping[str, float], kind: type[P]) -> P:
    try:
        changed = msgspec.convert({**msgspec.to_builtins(part), **values}, kind)
    except msgspec.ValidationError as error:
        raise _Unusable(f"{key}.{misfit.told(error)}") from None
    return _changed(changed, told)


def _changed(part: P, told: _Told, **values: object) -> P:
    changed: P = msgspec.structs.replace(part, why=told.why(part.why), **values)  # type: ignore[attr-defined]
    return changed
