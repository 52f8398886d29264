# SPDX-License-Identifier: Apache-2.0
"""Owns system-call groups (policy/calls/*.toml): their shape, and what a profile's `Calls` add up to.

Used when policy is compiled and linted, never at run time; knows no numbers.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec

from ipc.errors import ConfigError
from policy.profile import Calls, Why

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
    """Calls that belong together: `names` allowed, `enosys` answered so (the caller has another way), `only` judged."""

    why: Why
    names: tuple[CallName, ...] = ()
    enosys: tuple[CallName, ...] = ()
    only: tuple[Only, ...] = ()


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


def combine(calls: Calls, groups: Mapping[str, CallGroup], source: str) -> CallSet:
    """The groups and names of `calls` together. ConfigError, naming `source`, for a group that does not exist, and for
    a call that one group allows outright and another one judges or refuses: the stricter would be lost unseen."""
    unknown = sorted(set(calls.groups) - set(groups))
    if unknown:
        raise ConfigError(source, f"no such group of system calls: {', '.join(unknown)}")
    chosen = [groups[name] for name in calls.groups]
    allowed = frozenset(calls.names).union(*(group.names for group in chosen))
    enosys = frozenset[str]().union(*(group.enosys for group in chosen))
    only = _unique(entry for group in chosen for entry in group.only)
    judged = {entry.name for entry in only}
    twice = sorted(allowed & judged | allowed & enosys | enosys & judged)
    if twice:
        raise ConfigError(source, f"allowed by one group, judged or refused by another: {', '.join(twice)}")
    return CallSet(allowed, enosys, only, calls.otherwise)


def _unique(entries: Iterable[Only]) -> tuple[Only, ...]:
    """Two groups may judge a call in the same words; it is said once to the kernel."""
    seen: dict[tuple[object, ...], Only] = {}
    for entry in entries:
        for value in entry.values:
            single = msgspec.structs.replace(entry, values=(value,))
            seen.setdefault((entry.name, entry.argument, entry.mask, value, entry.answer), single)
    return tuple(seen.values())
