# SPDX-License-Identifier: Apache-2.0
"""Owns the ruling on one operation of one handler: by the policy's rules, and by waagent's policy file.

Pure; runs in the supervisor. Both have to allow it, and a refusal names the rule or the key that it comes from.
"""

from collections.abc import Iterable

import msgspec

from ipc.messages.extension_documents import ExtensionPolicyFile, HandlerManifest, PolicyEntry
from ipc.messages.extension_rules import (
    ExtensionRule,
    HandlerClass,
    HandlerLimits,
    HandlerVerb,
    Outbound,
    ServiceLimits,
)
from policy.extensions import Treatment, treatment

# What the host is told of a refusal (extensions.md 4), by what the goal state wants: an enable installs and updates.
CODES: dict[HandlerVerb, int] = {"install": 1009, "update": 1009, "enable": 1009, "disable": 1010, "uninstall": 1010}
_KEY = "extensionPolicies"
# Where connections to the WireServer end that a grant covers (policy.egress.redirect): each lets its own handler in.
_FORWARDERS = Outbound("127.63.129.0/24", (326,))


class Waagent(msgspec.Struct, frozen=True):
    """What waagent's policy file says (extensions.md 4.1): `file` is None where there is none, or it is not asked for.
    `problem` is why there is one that can't be used: then nothing is carried out, not even uninstall."""

    path: str = ""
    file: ExtensionPolicyFile | None = None
    problem: str = ""


class Ruling(msgspec.Struct, frozen=True):
    """What may be done, and how. Refused: `why` names the rule, and `code` is for the host; else "" and 0.

    `signature_why`: who requires a signature. `class_why`: which rule says the class, "" for the one that is shipped.
    `limits` are the policy's, beside the manifest's. `network` and `outbound` are a contained handler's."""

    allowed: bool
    why: str
    handler_class: HandlerClass
    signature_required: bool
    limits: HandlerLimits
    without: tuple[str, ...]
    code: int = 0
    signature_why: str = ""
    class_why: str = ""
    network: bool = True
    outbound: tuple[Outbound, ...] | None = None
    is_granted: bool = False


def rule(handler: str, version: str, verb: HandlerVerb, rules: Iterable[ExtensionRule], waagent: Waagent) -> Ruling:
    """Whether `verb` may be carried out for `handler` (Publisher.Type), by `rules` of the policy and by `waagent`."""
    said = treatment(handler, rules)
    refusal = _refused_by_rule(said, verb) or _refused_by_waagent(handler, waagent)
    signature_why = _signature(said, handler, waagent)
    named = f"{handler} {version}".rstrip()
    return Ruling(
        allowed=not refusal,
        why=f"{verb} of {named} is not allowed: {refusal}" if refusal else "",
        handler_class=said.handler_class,
        signature_required=bool(signature_why),
        limits=said.limits,
        without=said.without,
        code=CODES[verb] if refusal else 0,
        signature_why=signature_why,
        class_why=_named(said.by["handler_class"]) if "handler_class" in said.by else "",
        network=said.network,
        outbound=said.outbound if said.handler_class == "contained" else None,
        is_granted=said.is_granted,
    )


def with_host(ruling: Ruling, host: str) -> tuple[Outbound, ...] | None:
    """Its outbound list, and where it has a grant to the WireServer, which is at `host`, the way there."""
    if ruling.outbound is None or not ruling.is_granted:
        return ruling.outbound
    return (*ruling.outbound, Outbound(host, (80, 32526)), _FORWARDERS)


def within(limits: HandlerLimits, cpu_percent: int | None, memory_mib: int | None) -> HandlerLimits:
    """`limits` of the policy and those of the handler's manifest: of each the lower one."""
    return HandlerLimits(_lower(limits.cpu_percent, cpu_percent), _lower(limits.memory_mib, memory_mib), limits.tasks)


def service_limits(ruling: Ruling, manifest: HandlerManifest, verb: HandlerVerb) -> tuple[ServiceLimits, ...]:
    """Those of the services that the manifest names, before `verb`: set with each enable, no higher than policy has the
    handler's own, and lifted when it goes. Whoever is contained has no say in others' limits."""
    if ruling.handler_class == "contained" or verb not in {"enable", "uninstall"}:
        return ()
    is_on, most = verb == "enable", ruling.limits.cpu_percent
    return tuple(
        ServiceLimits(each.name, _lower(most, each.cpu_percent) if is_on else None) for each in manifest.services
    )


def _lower(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _refused_by_rule(said: Treatment, verb: HandlerVerb) -> str:
    if not said.allowed:
        return f"{_named(said.by['allowed'])} has allowed = false ({said.by['allowed'].why})"
    if verb in said.denied:
        return f"{_named(said.by['denied'])} has {verb} in denied ({said.by['denied'].why})"
    return ""


def _refused_by_waagent(handler: str, waagent: Waagent) -> str:
    if waagent.problem:
        return f"{waagent.path} can't be used, and until it can nothing is carried out: {waagent.problem}"
    if waagent.file is None or not waagent.file.listed_only or _entries(handler, waagent.file):
        return ""
    return (
        f"{waagent.path} has {_KEY}.allowListedExtensionsOnly = true, and {_KEY}.extensions does not list it; to "
        "allow it, add it there"
    )


def _signature(said: Treatment, handler: str, waagent: Waagent) -> str:
    """Who requires a signature, "" for nobody. An entry that says so counts before what the file says of all."""
    if said.signature_required:
        return f"{_named(said.by['signature_required'])} has signature_required = true"
    if waagent.file is None:
        return ""
    entries = [entry for entry in _entries(handler, waagent.file) if entry.signature_required is not None]
    for entry in entries:
        if entry.signature_required:
            return f"{waagent.path} has {_KEY}.extensions.{entry.name}.signatureRequired = true"
    of_all = waagent.file.signature_required and not entries
    return f"{waagent.path} has {_KEY}.signatureRequired = true" if of_all else ""


def _entries(handler: str, file: ExtensionPolicyFile) -> list[PolicyEntry]:
    """Those of that name: two that differ in case alone are two."""
    return [entry for entry in file.entries if entry.name.lower() == handler.lower()]


def _named(rule: ExtensionRule) -> str:
    return f'the rule "{rule.name}" in policy.d/{rule.file}'
