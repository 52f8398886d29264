# SPDX-License-Identifier: Apache-2.0
"""Owns our exposure index: what a kind may do, as weighed by policy/exposure.toml, from 0 to 100. Pure.

It weighs what policies grant, not what a process is handed at work: a password that it is told is not seen here.
"""

import math
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path

import msgspec

from policy.call_numbers import is_here, tables
from policy.facts import Facts

NAMESPACES = frozenset({"mount", "uts", "ipc", "net", "cgroup", "pid", "user"})
_LISTS = ("capabilities", "network", "writing", "secrets", "requests")


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """policy/exposure.toml. `budgets` and `surveyed` (others' units) are in systemd's measure."""

    version: int
    parts: dict[str, float]
    capabilities: dict[str, float]
    network: dict[str, float]
    writing: dict[str, float]
    secrets: dict[str, float]
    requests: dict[str, float]
    budgets: dict[str, float]
    surveyed: dict[str, float]


class Reach(msgspec.Struct, frozen=True):
    """What a kind may do, in the words of the weights. `calls`, `shared` (namespaces) are shares, 0 to 1."""

    root: bool
    calls: float
    shared: float
    programs: bool
    capabilities: frozenset[str]
    network: frozenset[str]
    writing: frozenset[str]
    secrets: frozenset[str]
    requests: frozenset[str]


def read_weights() -> Weights:
    """Those that were installed."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Weights)


def reach_of(facts: Facts, weights: Weights) -> Reach:
    """What the kind of `facts` may do."""
    profile = facts.profile
    known = len(tables().get(os.uname().machine, ())) or len(next(iter(tables().values())))
    return Reach(
        root=facts.is_root,
        calls=min(1.0, sum(map(is_here, facts.calls.reachable)) / known),
        shared=1 - len(NAMESPACES.intersection(profile.namespaces.new)) / len(NAMESPACES),
        programs=facts.may("execve", "execveat"),
        capabilities=profile.capability_names,
        network=frozenset(_network(facts)),
        writing=frozenset(path for path in weights.writing if facts.writes(path)),
        secrets=frozenset(_secrets(facts, weights)),
        requests=frozenset(request.message for request in profile.requests),
    )


def index(reach: Reach, weights: Weights) -> dict[str, float]:
    """What each part adds; their sum is the index."""
    shares = {
        "root": float(reach.root),
        "calls": reach.calls,
        "namespaces": reach.shared,
        "programs": float(reach.programs),
        "capabilities": math.sqrt(_share(reach.capabilities, weights.capabilities)),
        **{name: _share(getattr(reach, name), getattr(weights, name)) for name in _LISTS[1:]},
    }
    return {name: most * shares[name] for name, most in weights.parts.items()}


def total(reach: Reach, weights: Weights) -> float:
    """The index itself."""
    return sum(index(reach, weights).values())


class Shift(msgspec.Struct, frozen=True):
    """One weight changed by half: in `pairs` of kinds the other one is then the more exposed."""

    weight: str
    factor: float
    pairs: tuple[tuple[str, str], ...]


def sensitivity(reaches: Mapping[str, Reach], weights: Weights) -> list[Shift]:
    """What each weight, halved or half as much again, does to the ranking; one line for each that changes anything."""
    base = {kind: total(reach, weights) for kind, reach in reaches.items()}
    found = []
    for name, factor, changed in _changed(weights):
        now = {kind: total(reach, changed) for kind, reach in reaches.items()}
        if pairs := tuple(_swapped(base, now)):
            found.append(Shift(name, factor, pairs))
    return found


def _changed(weights: Weights) -> Iterator[tuple[str, float, Weights]]:
    named = [(part, name) for part in ("parts", *_LISTS) for name in getattr(weights, part)]
    for (part, name), factor in product(named, (0.5, 1.5)):
        table: dict[str, float] = getattr(weights, part)
        other = {**table, name: table[name] * factor}
        if part == "parts":
            other = {key: 100 * each / sum(other.values()) for key, each in other.items()}
        yield f"{part}.{name}", factor, msgspec.structs.replace(weights, **{part: other})


def _swapped(base: Mapping[str, float], now: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Pairs that changed places; two within a tenth of a point are alike and have no order."""
    kinds = sorted(base, key=lambda kind: base[kind])
    for place, lower in enumerate(kinds):
        for higher in kinds[place + 1 :]:
            if base[higher] - base[lower] > 0.1 and now[lower] - now[higher] > 0.1:
                yield lower, higher


def _share(names: Iterable[str], weights: Mapping[str, float]) -> float:
    """The part of all weight that `names` have; what has no weight of its own counts 1."""
    return min(1.0, sum(weights.get(name, 1.0) for name in names) / sum(weights.values()))


def _network(facts: Facts) -> Iterator[str]:
    families = set(facts.profile.families.names) if facts.may("socket") else set[str]()
    alone = "net" in facts.profile.namespaces.new
    if not alone and families & {"inet", "inet6"}:
        limited = facts.profile.families.connect_ports and facts.landlock
        yield from ("ports",) if limited else ("ports", "internet")
    if not alone and facts.has("net_raw"):
        yield "packets"
    if not alone and "netlink" in families:
        yield "netlink"
    if "unix" in families and facts.may("connect") and not (facts.own_view or facts.sealed):
        yield "services"
    if not alone and not facts.landlock and "unix" in families:
        yield "abstract"


def _secrets(facts: Facts, weights: Weights) -> Iterator[str]:
    yield from (path for path in weights.secrets if path.startswith("/") and facts.reads(path))
    if facts.has("sys_ptrace"):
        yield "memory"
