# SPDX-License-Identifier: Apache-2.0
"""Owns what the policy says of one vendor's handler: as shipped, and as the rules of overrides add up.

Pure. Used by the sealed compiler, the command line and the supervisor, each for itself.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ipc.messages.extension_rules import (
    ExtensionRule,
    ExtensionTable,
    HandlerClass,
    HandlerLimits,
    HandlerVerb,
    Outbound,
)

# What every handler goes without: no extension is known that needs one of them (docs/decisions/0025).
WITHOUT = ("sys_ptrace", "mac_override", "audit_read", "block_suspend", "wake_alarm", "lease", "sys_pacct")
_STAR = "*"


class Treatment(msgspec.Struct, frozen=True):
    """All that the policy says of one handler. `by` has, for each key of a rule, the one that said so, if one did.

    `outbound`: all that it may reach of the network, if it is contained; None: whatever the machine reaches.
    `is_granted`: it may ask the WireServer for something."""

    allowed: bool
    handler_class: HandlerClass
    signature_required: bool
    denied: tuple[HandlerVerb, ...]
    limits: HandlerLimits
    without: tuple[str, ...]
    network: bool
    by: Mapping[str, ExtensionRule]
    outbound: tuple[Outbound, ...] | None = None
    is_granted: bool = False


def treatment(handler: str, rules: Iterable[ExtensionRule]) -> Treatment:
    """What `rules` say of `handler` (Publisher.Type), each key by the most specific one that has it."""
    fitting = matching(handler, rules)
    by = {key: rule for rule in reversed(fitting) for key in ExtensionTable.__struct_fields__ if _has(rule, key)}
    # They answer one question: the more specific answer counts.
    if "network" in by and "outbound" in by:
        del by["outbound" if fitting.index(by["network"]) < fitting.index(by["outbound"]) else "network"]
    kept = getattr(by.get("keep"), "keep", ())
    return Treatment(
        getattr(by.get("allowed"), "allowed", True),
        getattr(by.get("handler_class"), "handler_class", "compat"),
        getattr(by.get("signature_required"), "signature_required", False),
        getattr(by.get("denied"), "denied", ()),
        _limits(fitting),
        (*(name for name in WITHOUT if name not in kept), *getattr(by.get("without"), "without", ())),
        getattr(by.get("network"), "network", True),
        by,
        getattr(by.get("outbound"), "outbound", None),
        "wireserver" in by,
    )


def matching(handler: str, rules: Iterable[ExtensionRule]) -> list[ExtensionRule]:
    """Those of `rules` that are about `handler`, the most specific one first."""
    return sorted((rule for rule in rules if fits(rule, handler)), key=_specificity, reverse=True)


def slice_of(handler: str) -> str:
    """The slice of all commands of a handler, and of what they leave running (extensions.md 10)."""
    return f"azure-vmextensions-{handler.replace('-', '_')}.slice"


def fits(rule: ExtensionTable, handler: str) -> bool:
    """Whether `rule` is about `handler`; the case of letters makes no difference."""
    name, meant = handler.lower(), rule.name.lower()
    return name.startswith(meant[:-1]) if meant.endswith(_STAR) else name == meant


def _specificity(rule: ExtensionTable) -> tuple[int, bool]:
    """Greater for the longer name, and of two of a length for the one without a star."""
    return len(rule.name.rstrip(_STAR)), not rule.name.endswith(_STAR)


def _has(rule: ExtensionRule, key: str) -> bool:
    return getattr(rule, key) is not None


def _limits(fitting: Sequence[ExtensionRule]) -> HandlerLimits:
    """Each limit by the most specific rule that has it."""
    said: dict[str, int] = {}
    for rule in reversed(fitting):
        if rule.limits is not None:
            values = {name: getattr(rule.limits, name) for name in HandlerLimits.__struct_fields__}
            said |= {name: value for name, value in values.items() if value is not None}
    return HandlerLimits(**said)
