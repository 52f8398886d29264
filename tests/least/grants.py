# SPDX-License-Identifier: Apache-2.0
"""Owns what counts as a grant of a profile, and the profile without one of them. Pure: starts and reads nothing."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeVar

import msgspec

from policy.profile import Calls, Profile

What = Literal[
    "capability", "start capability", "path", "access", "family", "request", "calls", "call", "start calls",
    "start call",
]  # fmt: skip
# What a path could be granted for instead, should its job not need all of it.
LESS: dict[str, tuple[str, ...]] = {"rx": ("ro",), "rw": ("ro",), "tools": ("rw", "rx")}


S = TypeVar("S", bound=msgspec.Struct)


class Grant(NamedTuple):
    """One thing that `kind` is given. `what` is of a path either all ("path") or how it may be used ("access")."""

    kind: str
    what: What
    name: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what} {self.name}"


def grants_of(profile: Profile) -> Iterator[Grant]:
    """Every grant of `profile`, in the order of its file."""
    kind = profile.kind
    for capability in profile.capabilities:
        yield Grant(kind, "capability", capability.name)
    for capability in profile.start_capabilities:
        yield Grant(kind, "start capability", capability.name)
    for grant in profile.paths:
        yield Grant(kind, "path", grant.path)
        for less in LESS.get(grant.access, ()):
            yield Grant(kind, "access", f"{grant.path} {grant.access}, not {less}")
    for family in profile.families.names:
        yield Grant(kind, "family", family)
    for request in profile.requests:
        yield Grant(kind, "request", f"{request.message} in {request.phase}")
    yield from _calls_of(profile)


def _calls_of(profile: Profile) -> Iterator[Grant]:
    """What the locked stage may call, and what the start alone may."""
    start, locked = profile.startup_calls, profile.locked_calls
    yield from (Grant(profile.kind, "calls", name) for name in locked.groups)
    yield from (Grant(profile.kind, "call", name) for name in locked.names)
    yield from (Grant(profile.kind, "start calls", name) for name in start.groups if name not in locked.groups)
    yield from (Grant(profile.kind, "start call", name) for name in start.names if name not in locked.names)


def without(profile: Profile, grant: Grant) -> Profile:
    """`profile` with `grant`, one of its own, taken away; KeyError when it has none such."""
    changed = _TAKEN[grant.what](profile, grant.name)
    if changed == profile:
        raise KeyError(str(grant))
    return changed


def _capability(profile: Profile, name: str) -> Profile:
    return _replace(profile, capabilities=tuple(each for each in profile.capabilities if each.name != name))


def _start_capability(profile: Profile, name: str) -> Profile:
    return _replace(profile, start_capabilities=tuple(each for each in profile.start_capabilities if each.name != name))


def _path(profile: Profile, name: str) -> Profile:
    return _replace(profile, paths=tuple(each for each in profile.paths if each.path != name))


def _access(profile: Profile, name: str) -> Profile:
    path, _, less = name.rpartition(", not ")
    path = path.rpartition(" ")[0]
    weaker = (_replace(each, access=less) if each.path == path else each for each in profile.paths)
    return _replace(profile, paths=tuple(weaker))


def _family(profile: Profile, name: str) -> Profile:
    names = tuple(each for each in profile.families.names if each != name)
    return _replace(profile, families=_replace(profile.families, names=names))


def _request(profile: Profile, name: str) -> Profile:
    kept = tuple(each for each in profile.requests if f"{each.message} in {each.phase}" != name)
    return _replace(profile, requests=kept)


def _of_calls(stage: str, part: str) -> Callable[[Profile, str], Profile]:
    def taken(profile: Profile, name: str) -> Profile:
        calls: Calls = getattr(profile, stage)
        kept = tuple(each for each in getattr(calls, part) if each != name)
        return _replace(profile, **{stage: _replace(calls, **{part: kept})})

    return taken


def _replace(struct: S, **changes: object) -> S:
    return msgspec.structs.replace(struct, **changes)


_TAKEN: dict[What, Callable[[Profile, str], Profile]] = {
    "capability": _capability,
    "start capability": _start_capability,
    "path": _path,
    "access": _access,
    "family": _family,
    "request": _request,
    "calls": _of_calls("locked_calls", "groups"),
    "call": _of_calls("locked_calls", "names"),
    "start calls": _of_calls("startup_calls", "groups"),
    "start call": _of_calls("startup_calls", "names"),
}
