# SPDX-License-Identifier: Apache-2.0
"""Owns putting a rule in force from the command line, and taking all of ours away. Needs root.

Runs in the process of `agent-supervisor firewall`: at boot, before the agent is there, or by hand. The agent itself has
a committer do it (workers/committers/egress.py).
"""

import socket
from itertools import product

from ipc.errors import AgentError
from ipc.messages.egress import Rule
from policy.egress import CANARY, TABLE, ebtables, iptables, leftovers, nft
from supervisor.cli.firewall_loaded import LIST_CHAINS, Loaded, frames, packets
from supervisor.cli.firewall_programs import Programs

# A refusal comes at once; what takes longer was dropped without a word.
PROBE_S = 2.0
UNJUDGED, UNBRIDGED = "packets that arrive are not judged", "what is bridged is not judged"


class NotInForce(AgentError):
    """A rule could not be loaded, or does not do what it is for."""


def load(programs: Programs, rule: Rule, below: str) -> str:
    """Load `rule` in the place of ours, whatever it was, in one act; without what the kernel lacks for it, which is
    returned in words. NotInForce, and nothing was changed."""
    if rule.mechanism == "iptables":
        listing = programs.run("iptables", LIST_CHAINS)
        if not listing.well:
            raise NotInForce(f"iptables can't list its rules: {listing.complaint}")
        said = _first(programs, ("iptables-restore", *iptables.RESTORE), _chains(rule, listing.out))
        return "; ".join(filter(None, (said, _load_frames(programs, rule))))
    logged, unlogged = (nft.ruleset(rule, below, logged=logged) for logged in (True, False))
    bridge = nft.bridge(rule)
    lacking = {
        logged + bridge: "",
        logged: UNBRIDGED,
        unlogged + bridge: "nothing is logged",
        unlogged: f"nothing is logged, and {UNBRIDGED}",
    }
    return _first(programs, ("nft", *nft.LOAD), lacking)


def unload(programs: Programs, there: Loaded) -> None:
    """Take away all of ours that `there` names; NotInForce when something stays."""
    ours = [*((family, TABLE) for family in there.tables), *there.grants]
    if ours:
        _well(programs, ("nft", *nft.LOAD), nft.removal(ours))
    if there.chains:
        listing = programs.run("iptables", LIST_CHAINS).out
        _well(programs, ("iptables-restore", *iptables.RESTORE), iptables.removal(listing))
    if there.frames is not None:
        for command in ebtables.removing(there.frames):
            _well(programs, ("ebtables", *command), "")


def take_over(programs: Programs, there: Loaded) -> list[str]:
    """Remove the rules that another agent left; returns what could not be removed."""
    troubles = []
    if there.left_table:
        done = programs.run("nft", nft.LOAD, nft.removal((leftovers.TABLE,)))
        troubles += [] if done.well else [f"table {' '.join(leftovers.TABLE)} stays: {done.complaint}"]
    for rule in there.left_rules:
        done = programs.run("iptables", rule)
        troubles += [] if done.well else [f"iptables {' '.join(rule)}: {done.complaint}"]
    return troubles


def tried(programs: Programs, rule: Rule) -> str:
    """What becomes of a connection of this process, which `rule` does not admit; NotInForce unless it is what is due.

    Where it is let through all the same, the rule has to have counted it."""
    if rule.root_is_guest:
        counter, words = "guest0", "root is let through for now, and was seen"
    elif rule.mode == "observe":
        counter, words = "tried", "nobody is refused, and an outsider was seen"
    elif outsider_passes():
        raise NotInForce(f"the rule is loaded by {rule.mechanism} and refuses nobody: an outsider got through")
    else:
        return "an outsider is refused"
    if not outsider_passes() or not packets(programs, rule.mechanism).get(counter):
        raise NotInForce(f"the rule is loaded by {rule.mechanism} and has not seen the packet of an outsider")
    return words


def outsider_passes() -> bool:
    """Whether this process reaches the canary; NotInForce when it gets no answer."""
    with socket.socket() as listener, socket.socket() as outsider:
        # Any port: all of the canary's are guarded.
        listener.bind((CANARY, 0))
        listener.listen(1)
        outsider.settimeout(PROBE_S)
        try:
            outsider.connect(listener.getsockname())
        except ConnectionRefusedError:
            return False
        except OSError as error:
            raise NotInForce(f"an outsider is not refused at once, as is due, but: {error}") from None
    return True


def _chains(rule: Rule, listing: str) -> dict[str, str]:
    """What iptables-restore may be given, the best first, each with what it lacks."""
    judging = (True, False) if iptables.judges_arriving(rule) else (True,)
    found = {}
    for judged, logged in product(judging, (True, False)):
        lacking = (*(() if judged else (UNJUDGED,)), *(() if logged else ("nothing is logged",)))
        found[iptables.ruleset(rule, listing, logged=logged, judged=judged)] = "; ".join(lacking)
    return found


def _load_frames(programs: Programs, rule: Rule) -> str:
    """What is bridged, judged by ebtables; why it is not, empty when it is, or need not be."""
    there = frames(programs)
    if (there or ()) == ebtables.wanted(rule):
        return ""
    try:
        if rule.mode != "enforce":
            unload(programs, Loaded(frames=there))
            return ""
        for command in ((ebtables.MAKE,) if there is None else ()) + ebtables.filling(rule, there or ()):
            _well(programs, ("ebtables", *command), "")
    except NotInForce as error:
        return f"{UNBRIDGED} ({error})"
    return ""


def _first(programs: Programs, command: tuple[str, ...], tries: dict[str, str]) -> str:
    """Give `command` one text after the other until it takes one; what that one lacks, and why."""
    problem = ""
    for text, lacking in tries.items():
        done = programs.run(command[0], command[1:], text)
        if done.well:
            return f"{lacking} ({problem})" if lacking else ""
        problem = problem or done.complaint
    raise NotInForce(f"{command[0]} does not load the rule, nothing was changed: {problem}")


def _well(programs: Programs, command: tuple[str, ...], text: str) -> None:
    done = programs.run(command[0], command[1:], text)
    if not done.well:
        raise NotInForce(f"{' '.join(command)} fails: {done.complaint}")
