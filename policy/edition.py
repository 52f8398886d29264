# SPDX-License-Identifier: Apache-2.0
"""Owns one edition of the policy as commands compare and show it: profiles, and what each stage may call and why.

Read from a folder of sources or from a compiled.bin alone, without libseccomp; never imported by a resident process.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ipc.errors import ConfigError
from policy import filter_reach
from policy.call_numbers import name_of
from policy.groups import CallGroup, CallSet, stages
from policy.profile import Calls, CompiledPolicy, Profile
from policy.reading import read_policy
from policy.sources import FOLDERS, read_sources

# An argument's number, its mask, and the value that is then allowed.
Rule = tuple[int, int, int]


class Call(msgspec.Struct, frozen=True):
    """A call that can succeed. `judged`: only by an argument, as `rules` say; these are not known of a compiled one."""

    why: str
    judged: bool = False
    rules: frozenset[Rule] = frozenset()


class Stage(msgspec.Struct, frozen=True):
    """What one stage of a kind may call. `otherwise`: "kill" or "enosys", what any other call meets."""

    calls: Mapping[str, Call]
    otherwise: str


class Edition(msgspec.Struct, frozen=True):
    """`stages` are the start and the work of each kind. `groups` is empty for a compiled edition."""

    profiles: Mapping[str, Profile]
    stages: Mapping[str, tuple[Stage, Stage]]
    groups: Mapping[str, CallGroup]


def read_edition(path: Path) -> Edition:
    """The edition in the folder `path` (with profiles/ and calls/, or with a compiled.bin alone) or in that file.

    ConfigError names what can't be used; OSError when it can't be read."""
    if path.is_dir() and all((path / part).is_dir() for part in FOLDERS):
        return edition_of(*read_policy(read_sources(str(path))))
    file = path / "compiled.bin" if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise ConfigError(str(path), f"has neither {' and '.join(FOLDERS)} nor a compiled.bin")
    try:
        policy = msgspec.msgpack.decode(file.read_bytes(), type=CompiledPolicy)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), f"is no compiled policy: {error}") from None
    return _compiled(policy, str(file))


def edition_of(profiles: Iterable[Profile], groups: Mapping[str, CallGroup]) -> Edition:
    """The edition of these profiles; ConfigError where their calls contradict each other."""
    everyone = {profile.kind: profile for profile in profiles}
    made = {}
    for kind, profile in everyone.items():
        sets = stages(profile, everyone.values(), groups)
        said = (profile.startup_calls, profile.locked_calls)
        made[kind] = (_stage(sets[0], said[0], groups), _stage(sets[1], said[1], groups))
    return Edition(everyone, made, groups)


def _stage(calls: CallSet, said: Calls, groups: Mapping[str, CallGroup]) -> Stage:
    # What a call's group says, or the stage that names it.
    whys = {name: groups[group].why for group in reversed(said.groups) for name in groups[group].allowed}
    found = {name: Call(whys.get(name, said.why)) for name in calls.allowed}
    for name in calls.reachable - calls.allowed:
        entries = [only for only in calls.only if only.name == name and only.answer == "allow"]
        rules = frozenset((only.argument, only.mask, value) for only in entries for value in only.values)
        found[name] = Call(" ".join(dict.fromkeys(only.why for only in entries)), True, rules)
    return Stage(found, calls.otherwise)


def _compiled(policy: CompiledPolicy, source: str) -> Edition:
    if policy.machine != os.uname().machine:
        raise ConfigError(source, f"was made for {policy.machine}: give the folder of its sources")
    profiles = {entry.profile.kind: entry.profile for entry in policy.programs}
    made = {
        entry.profile.kind: (
            _read_back(entry.startup_filter, entry.profile.startup_calls, source),
            _read_back(entry.locked_filter, entry.profile.locked_calls, source),
        )
        for entry in policy.programs
    }
    return Edition(profiles, made, {})


def _read_back(program: bytes, said: Calls, source: str) -> Stage:
    found = filter_reach.reach(program, source)
    calls = {name_of(number): Call(said.why, not outright) for number, outright in found.items()}
    return Stage(calls, filter_reach.otherwise(program, source))
