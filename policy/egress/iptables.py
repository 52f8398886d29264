# SPDX-License-Identifier: Apache-2.0
"""Owns the rule as iptables is told it, where there is no nft: chains of our own, and what jumps into them.

Pure. What leaves is judged by the uid that a socket was made under; what arrives, of which iptables can tell no uid,
by the cgroup that it was made in, where the kernel can.
"""

import re
from collections.abc import Iterable, Iterator

from ipc.messages.egress import Rule
from policy.egress import CANARY, FORWARDED_PREFIX, LOG_BYTES, LOG_GROUP, MARK, PORTS, REFUSED_PREFIX

# Chains of the table filter: what is on its way to the address; whose it is; what is forwarded; what arrives.
LEAVING, WHOSE, FORWARDED, ARRIVING = CHAINS = (MARK, f"{MARK}-WHO", f"{MARK}-FWD", f"{MARK}-IN")
# Arguments of iptables: the chains from which ours are reached (others may be too long to read); one of ours, which
# fails when nothing of ours is there; our rules with their packet counts.
LISTS = tuple(("-w", "-S", chain) for chain in ("OUTPUT", "FORWARD", "INPUT"))
LIST_OURS = ("-w", "-S", LEAVING)
LIST_COUNTERS = ("-w", "-v", "-S", WHOSE)
# Of iptables-restore: text on standard input, one transaction that leaves what it doesn't name.
RESTORE = ("--noflush", "-w")


def ruleset(rule: Rule, listing: str, *, logged: bool = True, judged: bool = True) -> str:
    """What iptables-restore is given to put `rule` in force, in the place of whatever of ours is there.

    `listing` is what LISTS printed just before. `judged`: what arrives, too, as far as `judges_arriving` goes.
    ValueError for a rule by cgroup."""
    if rule.mechanism != "iptables":
        raise ValueError(f"iptables can't put a rule of {rule.mechanism} in force")
    judged = judged and judges_arriving(rule)
    body = [
        *_emptied(),
        *_rules(LEAVING, _leaving(rule)),
        *_rules(WHOSE, _whose(rule, logged=logged, judged=judged)),
        *_rules(FORWARDED, _forwarded(rule, logged=logged)),
        *_rules(ARRIVING, _arriving(rule, judged=judged)),
        *_unhooked(listing),
        *(f"-I {chain} 1 {match} -j {target}" for chain, match, target in _hooks(rule, judged=judged)),
    ]
    return _transaction(body)


def judges_arriving(rule: Rule) -> bool:
    """Whether it can be told, for `rule`, who gets what arrives: nobody, or only who was made in one cgroup. Nothing
    tells whatever root makes, if that is a guest."""
    return rule.mode == "enforce" and not rule.root_is_guest and bool(rule.cgroup or not rule.uid)


def removal(listing: str) -> str:
    """What iptables-restore is given to remove all of ours; `listing` as for `ruleset`."""
    return _transaction([*_emptied(), *_unhooked(listing), *(f"-X {chain}" for chain in CHAINS)])


def ours(listing: str) -> tuple[str, ...]:
    """The lines of a listing (`iptables -S`) that are about a chain of ours, in its order."""
    return tuple(line for line in listing.splitlines() if {*line.split()} & {*CHAINS})


def counters(listing: str) -> dict[str, int]:
    """Packets by counter (those of policy.egress.nft), from what `iptables -w -v -S` printed, of one
    chain or of all."""
    found = {"refused": 0, "forwarded": 0, "tried": 0, "guest0": 0}
    for line in ours(listing):
        count = re.search(r" -c (\d+) \d+", line)
        name = _counter(line)
        if count and name:
            found[name] += int(count[1])
    return found


def _counter(line: str) -> str:
    if "NFLOG" in line:
        return ""
    if line.startswith(f"-A {WHOSE} ") and "--socket-exists" in line:
        return "tried" if CANARY in line else "refused"
    if line.startswith(f"-A {WHOSE} ") and "--uid-owner 0 " in f"{line} ":
        return "guest0"
    return "forwarded" if line.startswith(f"-A {FORWARDED} ") and " --dport " in line else ""


def _transaction(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in ("*filter", *lines, "COMMIT"))


def _emptied() -> Iterator[str]:
    """A chain that is declared is made, or emptied when it is there."""
    return (f":{chain} - [0:0]" for chain in CHAINS)


def _rules(chain: str, rules: Iterable[str]) -> Iterator[str]:
    return (f"-A {chain} {rule}" for rule in rules)


def _hooks(rule: Rule, *, judged: bool) -> tuple[tuple[str, str, str], ...]:
    """(chain, match, our chain it jumps to). On the loopback device no socket is found early, and nothing of the host's
    arrives; a setting (route_localnet) lets others reach addresses of it from elsewhere: not the canary's."""
    arriving = (f"! -i lo -s {rule.address} -p tcp --sport {port}" for port in PORTS) if judged else ()
    return (
        ("OUTPUT", f"-d {rule.address} -p tcp", LEAVING),
        ("OUTPUT", f"-d {CANARY} -p tcp", LEAVING),
        ("FORWARD", f"-d {rule.address} -p tcp", FORWARDED),
        ("FORWARD", f"-s {rule.address} -p tcp", FORWARDED),
        ("INPUT", f"! -i lo -d {CANARY} -p tcp", ARRIVING),
        *(("INPUT", match, ARRIVING) for match in arriving),
    )


def _unhooked(listing: str) -> Iterator[str]:
    """Every rule of somebody else's chain that leads into ours, as often as it is there, is deleted."""
    for line in ours(listing):
        command, chain = line.split()[:2]
        if command == "-A" and chain not in CHAINS:
            yield f"-D{line[2:]}"


def _leaving(rule: Rule) -> Iterator[str]:
    if rule.mode == "enforce":
        yield "-f -j DROP"
    yield from (f"-d {rule.address} -p tcp --dport {port} -g {WHOSE}" for port in PORTS)
    yield f"-d {CANARY} -p tcp -g {WHOSE}"


def _whose(rule: Rule, *, logged: bool, judged: bool) -> Iterator[str]:
    """Ours goes back to its chain, for others' rules to judge. What has no full socket is dropped and not answered.

    At the canary ours has to be in its cgroup as well: else what arrives for it could not be told."""
    verdict = "RETURN" if rule.mode == "observe" else "REJECT --reject-with tcp-reset"
    if rule.uid and judged:
        yield f"-d {CANARY} -p tcp -m owner --uid-owner {rule.uid} -m cgroup ! --path {rule.cgroup} -j {verdict}"
    if rule.uid:
        yield f"-m owner --uid-owner {rule.uid} -j RETURN"
    if rule.root_is_guest:
        yield "-m owner --uid-owner 0 -j RETURN"
    yield f"-d {CANARY} -p tcp -m owner --socket-exists -j {verdict}"
    if logged:
        yield f"-p tcp --syn -m owner --socket-exists {_log(REFUSED_PREFIX)}"
    yield f"-p tcp -m owner --socket-exists -j {verdict}"
    if rule.mode == "enforce":
        yield "-j DROP"


def _arriving(rule: Rule, *, judged: bool) -> Iterator[str]:
    """A reset carries nothing, and the one that refuses somebody has to arrive at him."""
    yield f"-d {CANARY} -j DROP"
    if not judged:
        return
    yield "-p tcp --tcp-flags RST RST -j RETURN"
    if rule.cgroup:
        yield f"-m cgroup --path {rule.cgroup} -j RETURN"
    yield "-j DROP"


def _forwarded(rule: Rule, *, logged: bool) -> Iterator[str]:
    verdict = "DROP" if rule.mode == "enforce" else "RETURN"
    if rule.mode == "enforce":
        yield f"-d {rule.address} -f -j DROP"
    for port in PORTS:
        if logged:
            yield f"-d {rule.address} -p tcp --dport {port} --syn {_log(FORWARDED_PREFIX)}"
        yield f"-d {rule.address} -p tcp --dport {port} -j {verdict}"
        yield f"-s {rule.address} -p tcp --sport {port} -j {verdict}"


def _log(prefix: str) -> str:
    heard = f'-j NFLOG --nflog-group {LOG_GROUP} --nflog-prefix "{prefix}"'
    return f"-m limit --limit 10/second --limit-burst 20 {heard} --nflog-size {LOG_BYTES} --nflog-threshold 1"
