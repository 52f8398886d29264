# SPDX-License-Identifier: Apache-2.0
"""Owns how `policy show --extension NAME` looks: the rules, what comes of them, and where each of that stands. Pure."""

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ipc.messages import HandlerLimits
from policy.extension_rules import limits_told, outbound_told

if TYPE_CHECKING:
    from supervisor.cli.policy_extension import Effective

MARGIN = 15
SHIPPED = "as shipped"


def lines(shown: "Effective", width: int) -> list[str]:
    """What to print, each line at most `width` columns wide unless a word is longer."""
    made = [f"{shown.handler} {shown.version}".rstrip(), ""]
    if shown.rules:
        made.append("Rules that are about it, the most specific one first:")
    else:
        made.append("No rule is about it.")
    for rule in shown.rules:
        made += _wrapped(f"{rule.name} ({rule.at.text}): {rule.says}. {rule.why}", "  ", "    ", width)
    made += ["", "What comes of them:"]
    for title, text in _rows(shown):
        made += _wrapped(text, f"  {title:{MARGIN}}", " " * (MARGIN + 2), width)
    return made


def _wrapped(text: str, first: str, others: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False, break_long_words=False
    )


def _rows(shown: "Effective") -> Iterator[tuple[str, str]]:
    allowed = [each.verb for each in shown.operations if each.allowed]
    yield "operations", "all are allowed" if len(allowed) == len(shown.operations) else ", ".join(allowed) or "none"
    yield from _refusals(shown)
    yield "class", f"{shown.handler_class} ({_source(shown, 'class')})"
    if shown.signature_required:
        by_rule = "signature_required" in shown.sources
        where = f" ({_source(shown, 'signature_required')})" if by_rule and "policy.d/" in shown.signature_why else ""
        yield "signature", f"required: {shown.signature_why}{where}"
    else:
        yield "signature", f"not required ({_source(shown, 'signature_required')})"
    yield "limits", _limits(shown)
    contained = shown.handler_class == "contained"
    if contained:
        yield "capabilities", "none: it is contained, under an account of its own"
    else:
        yield "capabilities", f"root's, without {', '.join(shown.without)} ({_source(shown, 'without', 'keep')})"
    yield "network", _network(shown, contained=contained)
    for grant in shown.wireserver:
        yield "WireServer", f"{grant.text}, in {grant.cgroup} ({grant.at.text})"
    if not shown.wireserver:
        yield "WireServer", f"refused ({SHIPPED})"
    yield "waagent's file", _waagent(shown)


def _refusals(shown: "Effective") -> Iterator[tuple[str, str]]:
    """What is refused for the same reason, together."""
    reasons: dict[str, list[str]] = {}
    for each in shown.operations:
        if not each.allowed:
            reasons.setdefault(each.why.partition(": ")[2], []).append(f"{each.verb} (code {each.code})")
    for reason, operations in reasons.items():
        yield "", f"not {', '.join(operations)}: {reason}"


def _source(shown: "Effective", *keys: str) -> str:
    return ", ".join(shown.sources[key].text for key in keys if key in shown.sources) or SHIPPED


def _limits(shown: "Effective") -> str:
    if shown.limits == HandlerLimits():
        text = f"none ({_source(shown, 'limits')})"
    else:
        by = [f"{key.partition('.')[2]}: {at.text}" for key, at in shown.sources.items() if key.startswith("limits.")]
        by += ["its manifest"] if shown.manifest_limits != HandlerLimits() else []
        text = f"{limits_told(shown.limits)} ({', '.join(by)})"
    return text if shown.version else f"{text}; those of a version's manifest count, too, the lower ones"


def _network(shown: "Effective", *, contained: bool) -> str:
    if not contained:
        is_said = "network" in shown.sources or "outbound" in shown.sources
        return f"the machine's{'; what a rule says of it counts where it is contained' if is_said else ''}"
    if not shown.network:
        return f"none ({_source(shown, 'network')})"
    if shown.outbound is None:
        return f"the machine's ({_source(shown, 'network')})"
    return f"{outbound_told(shown.outbound)} ({_source(shown, 'outbound')})"


def _waagent(shown: "Effective") -> str:
    file = shown.waagent
    if not file.is_asked:
        return f"{file.path} is not read: Debug.EnableExtensionPolicy is n"
    if not file.is_there:
        return f"{file.path} is not there"
    if file.problem:
        return f"{file.path} can't be used, and until it can nothing is carried out: {file.problem}"
    places = ", ".join(f"{key} on line {line}" for key, line in file.lines.items())
    return f"{file.path}: {places or 'nothing that counts here'}"
