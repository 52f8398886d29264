# SPDX-License-Identifier: Apache-2.0
"""Owns how the rule is loaded and taken away by nft, which the companion runs.

Runs in the egress committer. Each load is one transaction: it replaces what is there, or leaves it as it is.
"""

from collections.abc import Iterable
from itertools import product
from pathlib import Path

from ipc.errors import CommitError
from ipc.messages.egress import Rule
from policy.egress import hierarchy, nft
from workers.committers.tools import Tools

MOUNTS = Path("/proc/self/mountinfo")
EARLY_DEMUX = (Path("/proc/sys/net/ipv4/ip_early_demux"), Path("/proc/sys/net/ipv4/tcp_early_demux"))
ARRIVING_UNJUDGED = "packets that arrive are not judged, only those that leave"
BRIDGED_UNJUDGED = "what is bridged past this machine is not judged"


def load(tools: Tools, rule: Rule, former: Iterable[tuple[str, str]]) -> str:
    """Put `rule` in force, with all that belongs to it; where that fails, without bridges; without a log; without both.
    Other agents' tables `former` go with it.

    What this kernel can't do of it, empty when nothing. CommitError with what nft said, and nothing was changed."""
    below = _below() if rule.mechanism == "nft-cgroup" else ""
    demux = rule.mechanism == "nft-cgroup" or finds_sockets_early()
    unjudged = "" if demux else ARRIVING_UNJUDGED
    problem = ""
    for logged, bridged in product((True, False), repeat=2):
        text = nft.removal(former) + nft.ruleset(rule, below, logged=logged, demux=demux)
        outcome = tools.run("nft", *nft.LOAD, stdin=(text + (nft.bridge(rule) if bridged else "")).encode())
        if outcome.status == 0:
            lost = (unjudged, "" if logged else "nothing is logged", "" if bridged else BRIDGED_UNJUDGED)
            return "; ".join(filter(None, (*lost, problem and f"nft said: {problem}")))
        problem = problem or outcome.output
    raise CommitError(f"nft does not load the rule, nothing was changed: {problem}")


def finds_sockets_early() -> bool:
    """Whether the kernel does for what arrives. Where it doesn't say, it has no such switch, and always does."""
    return not any(switch.exists() and switch.read_bytes().strip() == b"0" for switch in EARLY_DEMUX)


def packets(tools: Tools, counter: str) -> int:
    """How many packets of `counter` the rule has seen since it was loaded."""
    return nft.counters(tools.run_well("nft", *nft.LIST_COUNTERS).text).get(counter, 0)


def remove(tools: Tools, former: Iterable[tuple[str, str]] = ()) -> bool:
    """Remove our own tables, those of grants, and others of the names `former`; whether there were any."""
    if not tools.find("nft"):
        return False
    listing = tools.run("nft", *nft.LIST)
    there = nft.tables(listing.text) if listing.status == 0 else ()
    gone = [table for table in there if table in {*nft.ours(listing.text), *nft.grants(listing.text), *former}]
    if gone:
        tools.run_well("nft", *nft.LOAD, stdin=nft.removal(gone).encode())
    return bool(gone)


def _below() -> str:
    """Bytes, because text may want a codec from disk."""
    return hierarchy.below(MOUNTS.read_bytes().decode("utf-8", "surrogateescape"))
