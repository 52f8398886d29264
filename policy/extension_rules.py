# SPDX-License-Identifier: Apache-2.0
"""Owns what may stand in a rule about extensions, what of it is a loosening, and how it reads in words.

Pure; for the sealed compiler and the command line.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from ipc.handler_names import EXPECTED
from ipc.messages.extension_rules import (
    MOST_RULES,
    ExtensionRule,
    ExtensionTable,
    HandlerClass,
    HandlerLimits,
    HandlerVerb,
    Outbound,
)
from ipc.messages.grants import WireGrant, WireRequests
from policy.capability import NAMES
from policy.difference import Change, Effect
from policy.extensions import WITHOUT, slice_of
from policy.grants import told as grant_told
from policy.outbound import prefix

# The key of such a table, and the kind that has vendors' commands started, of which rules are told.
EXTENSIONS, RULED = "extensions", "handler-start"
_KEYS = (
    "allowed", "handler_class", "signature_required", "denied", "limits", "without", "keep", "network", "outbound",
    "wireserver",
)  # fmt: skip
_TOLD_KEYS = tuple(key.removeprefix("handler_") for key in _KEYS)
_WORDS: dict[str, tuple[str, ...]] = {"class": get_args(HandlerClass), "denied": get_args(HandlerVerb)}
_UNITS = {"cpu_percent": "% of one processor", "memory_mib": "MiB of memory", "tasks": "processes and threads"}
_PARTS = {"limits": tuple(_UNITS), "outbound": ("to", "tcp", "udp"), "wireserver": WireRequests.__struct_fields__}
# By key, what a text should be that has not its form.
RULE_FORMS = {"name": f"a handler's name, the beginning of one and a star, or a star; in a name {EXPECTED}"}
# Where systemd has a handler's commands (extensions.md 10), below the root of cgroup2.
_SLICES = "azure.slice/azure-vmextensions.slice"


def faults(rules: Sequence[ExtensionRule]) -> Iterator[str]:
    """What is wrong with these, those of all files together, a line each."""
    if len(rules) > MOST_RULES:
        yield f"{len(rules)} tables, at most {MOST_RULES} are expected"
    seen: dict[str, ExtensionRule] = {}
    for rule in rules:
        earlier = seen.setdefault(rule.name.lower(), rule)
        if earlier is not rule:
            yield f"name {rule.name} has a table already, in {earlier.file}: one table says all of a name"
        if all(getattr(rule, key) is None for key in _KEYS):
            yield f"name {rule.name}: says nothing, expected one of {', '.join(_TOLD_KEYS)}"
        if rule.limits == HandlerLimits():
            yield f"name {rule.name}: limits is empty, expected one of {', '.join(_UNITS)}"
        for fault in (*_network_faults(rule), *_grant_faults(rule), *_capability_faults(rule)):
            yield f"name {rule.name}: {fault}"


def keys_of(rule: ExtensionTable) -> list[str]:
    """The keys that it has beside name and why, as they are written, and each of its limits."""
    found = [told for key, told in zip(_KEYS, _TOLD_KEYS, strict=True) if getattr(rule, key) is not None]
    return found + [f"limits.{name}" for name in _UNITS if getattr(rule.limits, name, None) is not None]


def words_for(key: str, problem: str) -> Sequence[str]:
    """What may stand there, where `problem`, msgspec's about `key` (such as "denied[0]", or empty for the table), is a
    word or a key that is not known; otherwise nothing."""
    if problem.startswith("Invalid enum value"):
        return _WORDS.get(key.partition("[")[0], ())
    if "unknown field" not in problem:
        return ()
    return _PARTS.get(key.partition("[")[0], ("name", "why", *_TOLD_KEYS))


def loosenings(rules: Iterable[ExtensionTable]) -> list[str]:
    """By what these give more than is shipped, a line each: what else they say takes away, or takes back what another
    one has taken."""
    return [f"{EXTENSIONS}: {rule.name} keeps {', '.join(rule.keep)}" for rule in rules if rule.keep]


def change(rule: ExtensionTable) -> Change:
    """What one more such rule is beside the policy as shipped."""
    contained = rule.handler_class == "contained" or rule.outbound is not None
    less = (rule.denied, rule.limits, rule.without, rule.signature_required, contained)
    effect: Effect = "tightens" if False in {rule.allowed, rule.network} or any(less) else "changes"
    return Change(RULED, EXTENSIONS, "+", told(rule), "loosens" if rule.keep or rule.wireserver else effect, rule.why)


def grants(rules: Iterable[ExtensionTable]) -> list[WireGrant]:
    """What these let single handlers ask the WireServer for, in the slices that they have."""
    return [
        WireGrant(
            rule.name,
            rule.wireserver.methods,
            rule.wireserver.paths,
            rule.why,
            f"{_SLICES}/{slice_of(rule.name)}",
            rule.wireserver.queries,
            rule.wireserver.body_bytes,
            rule.wireserver.port,
        )
        for rule in rules
        if rule.wireserver is not None
    ]


def told(rule: ExtensionTable) -> str:
    """The rule in words."""
    words: list[str] = [] if rule.handler_class is None else [rule.handler_class]
    for value, yes, no in (
        (rule.allowed, "allowed", "not allowed"),
        (rule.network, "with the network", "without a network where it is contained"),
        (rule.signature_required, "signed packages only", "packages need no signature"),
    ):
        if value is not None:
            words.append(yes if value else no)
    if rule.denied is not None:
        words.append(f"no {', no '.join(rule.denied)}" if rule.denied else "no operation denied")
    words += [outbound_told(each, "where it is contained, ") for each in (rule.outbound,) if each is not None]
    words += [limits_told(each) for each in (rule.limits,) if each is not None]
    for word, names in (("without", rule.without), ("keeps", rule.keep)):
        if names is not None:
            words.append(f"{word} {', '.join(names) or 'nothing of its own'}")
    words += [f"at the WireServer it {grant_told(grant).partition(' ')[2]}" for grant in grants([rule])]
    return f"{rule.name}: {'; '.join(words)}"


def limits_told(limits: HandlerLimits) -> str:
    """For people."""
    values = {unit: getattr(limits, name) for name, unit in _UNITS.items()}
    return f"at most {', '.join(f'{value} {unit}' for unit, value in values.items() if value is not None)}"


def outbound_told(outbound: Sequence[Outbound], where: str = "") -> str:
    """For people, with `where` before it."""
    places = [
        f"{each.to} ({', '.join(f'{name} {port}' for name in ('tcp', 'udp') for port in getattr(each, name))})"
        for each in outbound
    ]
    return f"{where}reaches {', '.join(places) or 'nothing'}, and nothing else"


def _network_faults(rule: ExtensionRule) -> Iterator[str]:
    of_contained = "it can only be taken away from a contained handler"
    if rule.network is False and rule.handler_class == "compat":
        yield f"network: {of_contained}"
    if rule.outbound is not None and rule.handler_class == "compat":
        yield f"outbound: {of_contained}"
    if rule.outbound is not None and rule.network is not None:
        yield "network and outbound are one question: expected one of them"
    for place in rule.outbound or ():
        try:
            prefix(place.to)
        except ValueError as error:
            yield f"outbound: {error}"
        if not (place.tcp or place.udp):
            yield f"outbound: {place.to} has no port, expected at least one in tcp or udp"


def _grant_faults(rule: ExtensionRule) -> Iterator[str]:
    """A grant is for a slice, which is one handler's."""
    if rule.wireserver is not None and rule.name.endswith("*"):
        yield "wireserver: expected in a rule that names one handler, whole, as the platform spells it"


def _capability_faults(rule: ExtensionRule) -> Iterator[str]:
    without, keep = rule.without or (), rule.keep or ()
    for key, names in (("without", without), ("keep", keep)):
        for name in sorted(set(names)):
            if name not in NAMES:
                yield f"{key}: there is no capability {name}"
            elif names.count(name) > 1:
                yield f"{key}: {name} is named twice"
    for name in sorted(set(without) & set(WITHOUT)):
        yield f"without: {name} is taken away from every handler already"
    for name in sorted((set(keep) & set(NAMES)) - set(WITHOUT)):
        yield f"keep: {name} is not taken away; taken away are {', '.join(WITHOUT)}"
    if keep and rule.handler_class == "contained":
        yield "keep: a contained handler has no capability"
