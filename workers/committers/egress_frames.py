# SPDX-License-Identifier: Apache-2.0
"""Owns how the rule about bridged traffic is loaded and taken away by ebtables, which the companion runs.

Runs in the egress committer, and is loaded there only when iptables has a part in the rule. Where the rule is there
already nothing is touched: a load is no one act.
"""

from ipc.errors import CommitError
from ipc.messages.egress import Rule
from policy.egress import ebtables
from workers.committers.egress_tables import BRIDGED_UNJUDGED
from workers.committers.tools import Tools


def load(tools: Tools, rule: Rule) -> str:
    """Put `rule` in force; why bridged traffic is not judged, empty when it is, or need not be."""
    try:
        there = _there(tools)
        if (there or ()) == ebtables.wanted(rule):
            return ""
        if rule.mode != "enforce":
            _run(tools, ebtables.removing(there or ()))
            return ""
        if there is None:
            _run(tools, (ebtables.MAKE,))
        _run(tools, ebtables.filling(rule, there or ()))
    except CommitError as error:
        return "" if rule.mode != "enforce" else f"{BRIDGED_UNJUDGED} ({error.problem})"
    return ""


def remove(tools: Tools) -> None:
    """Remove our chain, if it is there. CommitError when it stays."""
    there = _there(tools) if tools.find("ebtables") else None
    if there is not None:
        _run(tools, ebtables.removing(there))


def _there(tools: Tools) -> tuple[str, ...] | None:
    """What there is of ours; None where there is no chain of ours."""
    chain = tools.run("ebtables", *ebtables.LIST_OURS)
    return None if chain.status else ebtables.ours(chain.text, tools.run_well("ebtables", *ebtables.LIST_HOOK).text)


def _run(tools: Tools, commands: tuple[tuple[str, ...], ...]) -> None:
    for arguments in commands:
        tools.run_well("ebtables", *arguments)
