# SPDX-License-Identifier: Apache-2.0
"""Committer of the rule in front of the WireServer: puts it in force, tries it from outside, hands over its watch.

Runs as root with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE in the host's network and cgroup namespaces. It must never say
that the rule is in force without having been refused by it, nor keep to itself what somebody else has changed then.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any, NamedTuple

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import EgressGuarded, GuardEgress, HearRefusals, Message, OpenEgress, RefusalsHeard, Rule
from policy.egress import LOG_GROUP, MARK, TABLE, leftovers
from workers.committers import egress_canary, egress_connections, egress_tables, egress_watch
from workers.committers.commit import Workplace, perform
from workers.committers.tools import Tools
from workers.companion import companion
from workers.runtime import Answer, serve_once

# Each program's; iptables may have to wait for another one's lock.
PATIENCE_S = 8.0


def guard(request: GuardEgress, tools: Tools) -> Answer:
    """The answer, with the watch and the canary. CommitError, then nothing of the rule is half in force."""
    rule = request.rule
    by_nft = rule.mechanism != "iptables"
    with ExitStack() as opened:
        try:
            before = ("", "") if by_nft else _chains().prepare(tools, rule)
            watch = opened.enter_context(egress_watch.open_watch(or_deaf=not by_nft))
            canary, silent = egress_canary.listen()
            opened.enter_context(canary)
            remark = _load(tools, request, *before)
        except (OSError, ValueError) as error:
            raise CommitError(f"the rule can't be put in force: {error}") from None
        try:
            outcome = _judged(tools, rule, silent)
            heard = egress_watch.heard(watch, 1, TABLE if by_nft else MARK)
            # The older iptables does not speak to what is watched.
            deaf = not (by_nft or heard.ours)
            disturbed = "" if deaf else heard.disturbed
            if outcome.wrong and not disturbed:
                raise CommitError(outcome.wrong)
        except (CommitError, OSError) as error:
            raise _taken_away(tools, rule, str(error)) from None
        opened.pop_all()
    found = disturbed or outcome.untried or outcome.words
    facts = [f"{rule.mechanism}, {rule.mode}: {found}", remark, *_tidied(tools, request, gone=heard.former)]
    return EgressGuarded(
        "; ".join(filter(None, facts))[:1024],
        _ended(tools, request),
        outcome.untried[:1024],
        bool(disturbed),
        deaf,
        remark[:1024],
    ), (watch.detach(), canary.detach())


def clear(_: OpenEgress, work: Workplace) -> str:
    """Take all of ours away, whatever loaded it."""
    there = {"nft": egress_tables.remove(work.tools), "iptables": _chains().remove(work.tools)}
    gone = [mechanism for mechanism, was_there in there.items() if was_there]
    return f"removed from {' and '.join(gone)}" if gone else "there was no rule of ours"


def _chains() -> Any:
    """Only where iptables has a part in it: no code in a process with a capability that isn't needed."""
    return import_module("workers.committers.egress_chains")


def _load(tools: Tools, request: GuardEgress, listing: str, unbridged: str) -> str:
    """What of the rule can't be in force here; iptables was prepared for it. What nft still has of ours goes once
    iptables has it, not before."""
    former = [leftovers.TABLE] if request.leftovers else []
    if request.rule.mechanism != "iptables":
        return egress_tables.load(tools, request.rule, former)
    remark: str = _chains().load(tools, request.rule, listing)
    egress_tables.remove(tools, former)
    return "; ".join(filter(None, (remark, unbridged)))


class _Outcome(NamedTuple):
    """Of the trial from outside: one of the three."""

    words: str = ""
    wrong: str = ""
    untried: str = ""


def _judged(tools: Tools, rule: Rule, silent: str) -> _Outcome:
    """`silent`: why the canary does not listen. Who keeps the rule from being tried does not keep it away."""
    try:
        reached = egress_canary.reached()
    except CommitError as error:
        return _Outcome(wrong=error.problem)
    except OSError as error:
        return _Outcome(untried=f"a packet to the canary does not get as far as the rule ({error.strerror})")
    if silent and not reached:
        return _Outcome(untried=silent)
    try:
        return _Outcome(_tried(tools, rule, reached=reached), untried=silent)
    except CommitError as error:
        return _Outcome(wrong=error.problem)


def _taken_away(tools: Tools, rule: Rule, problem: str) -> CommitError:
    """The rule is not what it has to be: it goes, as far as that can be."""
    try:
        (_chains() if rule.mechanism == "iptables" else egress_tables).remove(tools)
    except (CommitError, OSError) as error:
        return CommitError(f"{problem}; the rule can't be taken away again: {error}", changed=True)
    return CommitError(f"{problem}; the rule was taken away again", changed=True)


def _tried(tools: Tools, rule: Rule, *, reached: bool) -> str:
    """What became of this process's own packet, which is an outsider's; CommitError unless it is what has to be.

    Where outsiders are let through, the rule has to have counted it; so it is where root, which this is, is a guest."""
    if rule.root_is_guest and rule.mechanism != "nft-cgroup":
        counter, words = "guest0", "root is admitted, and was seen"
    elif rule.mode == "observe":
        counter, words = "tried", "an outsider is let through, and was seen"
    elif reached:
        raise CommitError(f"the rule is loaded by {rule.mechanism} and refuses nobody: an outsider got through")
    else:
        return "an outsider is refused"
    by = _chains() if rule.mechanism == "iptables" else egress_tables
    if not reached or not by.packets(tools, counter):
        raise CommitError(f"the rule is loaded by {rule.mechanism} and has not seen the packet of an outsider")
    return words


def _tidied(tools: Tools, request: GuardEgress, *, gone: bool) -> Iterator[str]:
    """What the other mechanism still had of ours, and iptables of another agent's. The rule is in force whatever comes
    of it."""
    if gone:
        yield "the table of another agent was removed"
    if not request.leftovers:
        return
    try:
        if request.rule.mechanism != "iptables" and _chains().remove(tools):
            yield "our chains of iptables were removed"
        former = _chains().remove_former(tools, request.rule.address)
        if former:
            yield f"{former} rules of another agent were removed from iptables"
    except CommitError as error:
        yield f"what is left in iptables can't be removed: {error.problem}"


def _ended(tools: Tools, request: GuardEgress) -> int:
    """Guests may be in the middle of something: as long as there are any, the rule alone judges."""
    rule = request.rule
    if rule.mode == "observe" or rule.root_is_guest or any(rule.guests):
        return 0
    try:
        return egress_connections.end(tools, rule.address, request.own_ports)
    except CommitError:
        return -1


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    with companion() as ask_companion:
        tools = Tools(ask_companion, PATIENCE_S)

        def on_guard(request: GuardEgress, _: tuple[int, ...]) -> Iterable[Answer]:
            yield guard(request, tools)

        def on_open(request: Message, _: tuple[int, ...]) -> Iterable[Answer]:
            yield perform(clear, request, tools=tools)

        def on_hear(_: Message, __: tuple[int, ...]) -> Iterable[Answer]:
            log = import_module("workers.committers.egress_log")
            yield RefusalsHeard(), (log.open_log(LOG_GROUP).detach(),)

        serve_once(channel, lock, {GuardEgress: on_guard, OpenEgress: on_open, HearRefusals: on_hear})
