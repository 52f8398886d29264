# SPDX-License-Identifier: Apache-2.0
"""Owns system-call groups (policy/calls/*.toml): their shape, and what a profile's `Calls` add up to.

Used when policy is compiled and linted, never at run time; knows no numbers.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Literal

import msgspec

from ipc.errors import ConfigError
from policy.call_numbers import is_here
from policy.profile import Calls, Families, Profile, Why

CallName = Annotated[str, msgspec.Meta(pattern="^[a-z_][a-z0-9_]*$")]


class Only(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call answered by one argument (0 to 5): where (argument & mask) is one of `values`, the answer is `answer`."""

    name: CallName
    argument: Annotated[int, msgspec.Meta(ge=0, le=5)]
    values: Annotated[tuple[int, ...], msgspec.Meta(min_length=1)]
    why: Why
    mask: int = 0xFFFFFFFF
    answer: Literal["allow", "enosys"] = "allow"


class CallGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Calls that belong together: `names` allowed, `enosys` answered so (the caller has another way), `only` judged.

    instead: for some of `names`, what does the same on machines that have no such call."""

    why: Why
    names: tuple[CallName, ...] = ()
    enosys: tuple[CallName, ...] = ()
    only: tuple[Only, ...] = ()
    instead: dict[CallName, CallName] = {}

    @property
    def allowed(self) -> frozenset[str]:
        """`names` as this machine has them."""
        return frozenset(
            self.instead[name] if name in self.instead and not is_here(name) else name for name in self.names
        )


class CallSet(msgspec.Struct, frozen=True):
    """What one stage of a profile may call, its groups put together; every other call meets `otherwise`."""

    allowed: frozenset[str]
    enosys: frozenset[str]
    only: tuple[Only, ...]
    otherwise: Literal["kill", "enosys"]

    @property
    def reachable(self) -> frozenset[str]:
        """Calls that can succeed, with whatever arguments."""
        return self.allowed | {only.name for only in self.only if only.answer == "allow"}

    @property
    def named(self) -> frozenset[str]:
        """Calls of which it says anything."""
        return self.allowed | self.enosys | {only.name for only in self.only}


FAMILY_NUMBERS = {"unix": 1, "inet": 2, "inet6": 10, "netlink": 16}


def stages(profile: Profile, profiles: Iterable[Profile], groups: Mapping[str, CallGroup]) -> tuple[CallSet, CallSet]:
    """What `profile`, one of `profiles`, may call at its start and when it is locked; ConfigError as of `combine`."""
    source = f"profiles/{profile.kind}.toml"
    made = []
    for calls in (profile.startup_calls, profile.locked_calls):
        stage = combine(calls, profile.families, groups, source)
        if calls.children:
            others = [each for each in profiles if each.kind != profile.kind and not each.startup_calls.children]
            stage = _less(_with_children(stage, [stages(other, (), groups)[0] for other in others]), calls.without)
        made.append(stage)
    return made[0], made[1]


def _with_children(own: CallSet, children: Iterable[CallSet]) -> CallSet:
    """What whoever inherits `own` needs on top of it. Sockets it may have those that `own` may have."""
    children = tuple(children)
    allowed = own.allowed.union(*(child.allowed for child in children))
    judged = (entry for each in (own, *children) for entry in each.only if entry.answer == "allow")
    only = _unique(
        entry for entry in judged if entry.name not in allowed and (entry.name != "socket" or entry in own.only)
    )
    return CallSet(allowed, own.enosys - allowed, only, own.otherwise)


def combine(calls: Calls, families: Families, groups: Mapping[str, CallGroup], source: str) -> CallSet:
    """The groups and names of `calls`, and `socket` for `families`, together.

    ConfigError, naming `source`, for a group that does not exist, and for a call that one group allows outright and
    another one judges or refuses: the stricter would be lost unseen."""
    unknown = sorted(set(calls.groups) - set(groups))
    if unknown:
        raise ConfigError(source, f"no such group of system calls: {', '.join(unknown)}")
    chosen = [groups[name] for name in calls.groups]
    allowed = frozenset(calls.names).union(*(group.allowed for group in chosen))
    enosys = frozenset[str]().union(*(group.enosys for group in chosen))
    only = _unique(entry for group in chosen for entry in (*group.only, *_sockets(families)))
    judged = {entry.name for entry in only}
    twice = sorted(allowed & judged | allowed & enosys | enosys & judged)
    if twice:
        raise ConfigError(source, f"allowed by one group, judged or refused by another: {', '.join(twice)}")
    return _less(CallSet(allowed, enosys, only, calls.otherwise), calls.without)


def _less(calls: CallSet, without: Collection[str]) -> CallSet:
    """`calls` but for those named; they meet what any other call meets."""
    kept = tuple(entry for entry in calls.only if entry.name not in without)
    return CallSet(calls.allowed.difference(without), calls.enosys.difference(without), kept, calls.otherwise)


def _sockets(families: Families) -> tuple[Only, ...]:
    numbers = tuple(FAMILY_NUMBERS[name] for name in families.names)
    return (Only("socket", 0, numbers, families.why),) if numbers else ()


def _unique(entries: Iterable[Only]) -> tuple[Only, ...]:
    """Two groups may judge a call in the same words; it is said once to the kernel."""
    seen: dict[tuple[object, ...], Only] = {}
    for entry in entries:
        for value in entry.values:
            single = msgspec.structs.replace(entry, values=(value,))
            seen.setdefault((entry.name, entry.argument, entry.mask, value, entry.answer), single)
    return tuple(seen.values())
