# SPDX-License-Identifier: Apache-2.0
"""Owns how the rule is loaded and taken away by iptables, which the companion runs; and what another agent left there.

Runs in the egress committer, and is loaded there only when iptables has a part in it. Each load is one transaction.
"""

from itertools import product

from ipc.errors import CommitError
from ipc.messages.egress import Rule
from policy.egress import iptables, leftovers
from workers.committers import egress_frames
from workers.committers.egress_tables import ARRIVING_UNJUDGED, finds_sockets_early
from workers.committers.tools import Tools

HELD_ENDED = f"{ARRIVING_UNJUDGED}: connections held from before are ended instead, where the kernel can"


def prepare(tools: Tools, rule: Rule) -> tuple[str, str]:
    """What is done before the one transaction of `load`: (the chains that lead into ours, what of the rule about
    bridged traffic can't be in force). CommitError where there is no iptables."""
    return _hooks(tools), egress_frames.load(tools, rule)


def load(tools: Tools, rule: Rule, listing: str) -> str:
    """Put `rule` in force; what iptables can't do of it. CommitError with what it said, and nothing was changed."""
    problem = ""
    judging = iptables.judges_arriving(rule) and (not rule.cgroup or finds_sockets_early())
    for judged, logged in product((True, False) if judging else (False,), (True, False)):
        text = iptables.ruleset(rule, listing, logged=logged, judged=judged)
        outcome = tools.run("iptables-restore", *iptables.RESTORE, stdin=text.encode())
        if outcome.status == 0:
            unjudged = "" if judged or rule.mode != "enforce" else HELD_ENDED
            lost = (unjudged, "" if logged else "nothing is logged", problem and f"iptables said: {problem}")
            return "; ".join(filter(None, lost))
        problem = problem or outcome.output
    if not _are_there(tools):
        egress_frames.remove(tools)
    raise CommitError(f"iptables-restore does not load the rule, nothing was changed: {problem}")


def packets(tools: Tools, counter: str) -> int:
    """How many packets of `counter` the rule has seen since it was loaded."""
    return iptables.counters(tools.run_well("iptables", *iptables.LIST_COUNTERS).text).get(counter, 0)


def remove(tools: Tools) -> bool:
    """Remove our own chains; whether there were any. Tables that nobody uses are not brought to life."""
    if not _are_there(tools):
        return False
    tools.run_well("iptables-restore", *iptables.RESTORE, stdin=iptables.removal(_hooks(tools)).encode())
    egress_frames.remove(tools)
    return True


def remove_former(tools: Tools, address: str) -> int:
    """Remove the rules about `address` that another agent left; how many there were."""
    if not tools.find("iptables"):
        return 0
    listing = tools.run("iptables", *leftovers.LIST)
    found = leftovers.removals(listing.text, address) if listing.status == 0 else ()
    for arguments in found:
        tools.run_well("iptables", *arguments)
    return len(found)


def _are_there(tools: Tools) -> bool:
    return bool(tools.find("iptables")) and tools.run("iptables", *iptables.LIST_OURS).status == 0


def _hooks(tools: Tools) -> str:
    return "".join(tools.run_well("iptables", *arguments).text for arguments in iptables.LISTS)
