# SPDX-License-Identifier: Apache-2.0
"""Owns the difference between two editions of the policy: each grant that came, went or changed, and what that means.

Pure. Texts (`why`) are no difference; which of two editions is looser as a whole is judged in policy.reach.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from policy.edition import Call, Edition, Stage
from policy.items import Item, items
from policy.path_reach import wider_paths
from policy.profile import Profile

Effect = Literal["tightens", "loosens", "changes"]
Sign = Literal["+", "-"]
_OPPOSITE: Mapping[Effect, Effect] = {"tightens": "loosens", "loosens": "tightens", "changes": "changes"}
# What one more of each means, or, of a value, a greater one.
_MORE: Mapping[str, Effect] = {
    "capabilities": "loosens",
    "start_capabilities": "loosens",
    "namespaces": "tightens",
    "families": "loosens",
    "descriptors": "loosens",
    "requests": "loosens",
    "runs": "loosens",
    "hidden": "tightens",
    "limits": "loosens",
    "lifetime": "loosens",
    "preload": "changes",
    "process": "changes",
}


class Change(msgspec.Struct, frozen=True):
    """One line of a difference. `sign` is "+" for what is only in the new edition, "-" for what is only in the old."""

    kind: str
    key: str
    sign: Sign
    what: str
    effect: Effect
    why: str


def difference(old: Edition, new: Edition) -> list[Change]:
    """Every change from `old` to `new`, by kind, keys in a profile's order."""
    found: list[Change] = []
    for kind in sorted({*old.profiles, *new.profiles}):
        if kind not in new.profiles:
            found.append(Change(kind, "kind", "-", kind, "tightens", old.profiles[kind].why))
        elif kind not in old.profiles:
            found.append(Change(kind, "kind", "+", kind, "loosens", new.profiles[kind].why))
        else:
            found += _between(kind, old, new)
    return found


def _between(kind: str, old: Edition, new: Edition) -> Iterator[Change]:
    before, after = old.profiles[kind], new.profiles[kind]
    for key in _MORE:
        yield from _entries(kind, key, (items(key, before), items(key, after)))
    yield from _paths(kind, before, after)
    for index, key in enumerate(("startup_calls", "locked_calls")):
        # Of a compiled edition it is not known which arguments a call is judged by.
        yield from _calls(
            kind, key, (old.stages[kind][index], new.stages[kind][index]), bool(old.groups and new.groups)
        )


def _entries(kind: str, key: str, both: tuple[Mapping[str, Item], Mapping[str, Item]]) -> Iterator[Change]:
    before, after = both
    more = _MORE[key]
    for name in _in_order(before, after):
        was, now = before.get(name), after.get(name)
        if was is None and now is not None:
            yield Change(kind, key, "+", now.text(name), more, now.why)
        elif now is None and was is not None:
            yield Change(kind, key, "-", was.text(name), _OPPOSITE[more], was.why)
        elif was is not None and now is not None and was.words != now.words:
            effect = more if now.weight > was.weight else _OPPOSITE[more] if now.weight < was.weight else "changes"
            yield from _replaced(kind, key, (was.text(name), was.why), (now.text(name), now.why), effect)


def _paths(kind: str, before: Profile, after: Profile) -> Iterator[Change]:
    """What a grant means depends on the others: part of what it names may be granted by another one as well."""
    wider, narrower = _places(before, after), _places(after, before)
    was, now = ({_grant(grant): grant for grant in profile.paths} for profile in (before, after))
    for text in _in_order(was, now):
        grant = was.get(text) or now[text]
        if text in was and text in now:
            continue
        effect: Effect = "loosens" if grant.path in wider else "tightens" if grant.path in narrower else "changes"
        yield Change(kind, "paths", "+" if text in now else "-", text, effect, grant.why)


def _places(before: Profile, after: Profile) -> set[str]:
    """Paths at which `after` reaches more than `before`."""
    return {line.removeprefix("paths: ").rpartition(": ")[0] for line in wider_paths(before, after)}


def _grant(grant: msgspec.Struct) -> str:
    path, access, until = (getattr(grant, name) for name in ("path", "access", "until"))
    return f"{path} {access}" + (f" until {until}" if until != "end" else "")


def _calls(kind: str, key: str, both: tuple[Stage, Stage], exact: bool) -> Iterator[Change]:
    before, after = both
    if before.otherwise != after.otherwise:
        effect: Effect = "loosens" if before.otherwise == "kill" else "tightens"
        texts = [(f"any other call: {stage.otherwise}", "") for stage in both]
        yield from _replaced(kind, key, texts[0], texts[1], effect)
    for name in sorted({*before.calls, *after.calls}):
        was, now = before.calls.get(name), after.calls.get(name)
        if was is None and now is not None:
            yield Change(kind, key, "+", _call(name, now), "loosens", now.why)
        elif now is None and was is not None:
            yield Change(kind, key, "-", _call(name, was), "tightens", was.why)
        elif (
            was is not None
            and now is not None
            and (was.judged, exact and was.rules) != (now.judged, exact and now.rules)
        ):
            looser = not now.judged or (was.judged and bool(now.rules - was.rules))
            yield from _replaced(
                kind, key, (_call(name, was), was.why), (_call(name, now), now.why), "loosens" if looser else "tightens"
            )


def _call(name: str, call: Call) -> str:
    if not call.judged:
        return name
    rules = " or ".join(f"argument {place} & {mask:#x} is {value:#x}" for place, mask, value in sorted(call.rules))
    return f"{name} where {rules or 'an argument allows it'}"


def _replaced(kind: str, key: str, was: tuple[str, str], now: tuple[str, str], effect: Effect) -> Iterator[Change]:
    yield Change(kind, key, "-", was[0], effect, was[1])
    yield Change(kind, key, "+", now[0], effect, now[1])


def _in_order(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    return list(dict.fromkeys((*before, *after)))
