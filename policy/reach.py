# SPDX-License-Identifier: Apache-2.0
"""Owns the comparison of two policies: everything by which one lets a process do more than the other.

Pure; used by the sealed compiler of overrides and by the command line. What it has no rule for has to be equal.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from policy.groups import CallGroup, CallSet, stages
from policy.path_reach import wider_paths
from policy.profile import Profile, Request

Pair = tuple[Profile, Profile]
# A start that is refused one of these finds a kernel without it, and goes on with less.
CONFINING = frozenset(
    {
        "capset", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "mount", "mount_setattr",
        "openat2", "pivot_root", "prctl", "seccomp", "setns", "unshare",
    }
)  # fmt: skip


def loosenings(shipped: Iterable[Profile], merged: Iterable[Profile], groups: Mapping[str, CallGroup]) -> list[str]:
    """Every reach that `merged` has and `shipped` has not, a line each that begins with the kind and the key.

    Empty: `merged` is as tight as `shipped`, or tighter. Profiles are compared by kind, what they say (`why`) not."""
    before, after = ({profile.kind: profile for profile in profiles} for profiles in (shipped, merged))
    found = []
    for kind, profile in sorted(after.items()):
        if kind not in before:
            found.append(f"{kind}: no such kind of process is shipped")
            continue
        pair = before[kind], profile
        stages_of_both = (
            stages(each, all_of.values(), groups) for each, all_of in zip(pair, (before, after), strict=True)
        )
        both = list(stages_of_both)
        wider = [*_wider(pair), *_wider_stages(*both), *_less_confined(*both)]
        found += [f"{kind}: {text}" for text in wider]
    return found


def _less_confined(shipped: tuple[CallSet, CallSet], merged: tuple[CallSet, CallSet]) -> Iterator[str]:
    """Calls that confine: whoever can't make them goes on as on a kernel that has none."""
    for name in sorted(CONFINING & (shipped[0].reachable - merged[0].reachable)):
        yield f"remove.calls: {name} is what it confines itself by: without, it would have less over it"


def _wider(pair: Pair) -> Iterator[str]:
    for field in Profile.__struct_fields__:
        if field in _RULES:
            yield from _RULES[field](*pair)
        elif field not in {"kind", "why"}:
            yield from _changed(field, *(getattr(profile, field) for profile in pair))


def _changed(key: str, shipped: object, merged: object) -> Iterator[str]:
    """For what is neither wider nor narrower, only other."""
    if _without_why(shipped) != _without_why(merged):
        yield f"{key}: is not as shipped"


def _without_why(value: object) -> object:
    return msgspec.structs.replace(value, why="-" * 10) if isinstance(value, msgspec.Struct) else value


def _namespaces(shipped: Profile, merged: Profile) -> Iterator[str]:
    for name in sorted(set(shipped.namespaces.new) - set(merged.namespaces.new)):
        yield f"namespaces: {name} is the host's"


def _capabilities(shipped: Profile, merged: Profile) -> Iterator[str]:
    for name in sorted(merged.capability_names - shipped.capability_names):
        yield f"capabilities: {name} is kept"


def _start_capabilities(shipped: Profile, merged: Profile) -> Iterator[str]:
    for name in sorted(merged.start_capability_names - shipped.start_capability_names):
        yield f"start_capabilities: {name} is held at the start"


def _families(shipped: Profile, merged: Profile) -> Iterator[str]:
    for name in sorted(set(merged.families.names) - set(shipped.families.names)):
        yield f"families: sockets of family {name} are made"
    for name in sorted(set(merged.families.handed) - set(shipped.families.handed)):
        yield f"families.handed: sockets of family {name} are held"
    before, after = set(shipped.families.connect_ports), set(merged.families.connect_ports)
    # No port named is every port.
    if before and not (after and after <= before):
        yield "families.connect_ports: are not among those shipped"


def _descriptors(shipped: Profile, merged: Profile) -> Iterator[str]:
    for name in sorted(set(merged.descriptors.types) - set(shipped.descriptors.types)):
        yield f"descriptors: {name} may be held open"


def _limits(shipped: Profile, merged: Profile) -> Iterator[str]:
    for field in shipped.limits.__struct_fields__:
        before, after = getattr(shipped.limits, field), getattr(merged.limits, field)
        if field != "why" and after > before:
            yield f"limits.{field}: {after} is more than {before}"


def _lifetime(shipped: Profile, merged: Profile) -> Iterator[str]:
    yield from _changed("lifetime.kind", shipped.lifetime.kind, merged.lifetime.kind)
    for field in ("deadline_s", "instances", "jobs"):
        before, after = getattr(shipped.lifetime, field), getattr(merged.lifetime, field)
        if after > before:
            yield f"lifetime.{field}: {after} is more than {before}"


def _requests(shipped: Profile, merged: Profile) -> Iterator[str]:
    rows = {(request.message, request.phase): request for request in shipped.requests}
    for request in merged.requests:
        before = rows.get((request.message, request.phase))
        if before is None:
            yield f"requests: {request.message} is sent in phase {request.phase}"
        elif _is_freer(before, request):
            yield f"requests: {request.message} in phase {request.phase} is sent more often, or before {before.after}"


def _is_freer(before: Request, after: Request) -> bool:
    return (before.once and not after.once) or (before.after not in {"", after.after})


def _runs(shipped: Profile, merged: Profile) -> Iterator[str]:
    for name in sorted({program.name for program in merged.runs} - {program.name for program in shipped.runs}):
        yield f"runs: {name} is run"


def _hidden(shipped: Profile, merged: Profile) -> Iterator[str]:
    for path in sorted(set(shipped.hidden) - set(merged.hidden)):
        yield f"hidden: {path} is seen"


def _wider_stages(shipped: tuple[CallSet, CallSet], merged: tuple[CallSet, CallSet]) -> Iterator[str]:
    for key, before, after in zip(("startup_calls", "locked_calls"), shipped, merged, strict=True):
        if before.otherwise == "kill" and after.otherwise != "kill":
            yield f"{key}.otherwise: any other call is answered, not killed for"
        for name in sorted(after.reachable):
            if name in before.allowed:
                continue
            if name in after.allowed:
                yield f"{key}: {name} is allowed"
            elif not _answers(after, name) <= _answers(before, name):
                yield f"{key}: {name} is allowed with other arguments"


def _answers(calls: CallSet, name: str) -> set[tuple[int, int, int]]:
    """The arguments with which a call is allowed: (which one, mask, value)."""
    return {
        (entry.argument, entry.mask, value)
        for entry in calls.only
        if entry.name == name and entry.answer == "allow"
        for value in entry.values
    }


_RULES: dict[str, Callable[[Profile, Profile], Iterable[str]]] = {
    "namespaces": _namespaces,
    "capabilities": _capabilities,
    "start_capabilities": _start_capabilities,
    "paths": wider_paths,
    "families": _families,
    "descriptors": _descriptors,
    # What the two stages add up to is compared by itself.
    "startup_calls": lambda *_: (),
    "locked_calls": lambda *_: (),
    "limits": _limits,
    "lifetime": _lifetime,
    "requests": _requests,
    "hidden": _hidden,
    "runs": _runs,
}
