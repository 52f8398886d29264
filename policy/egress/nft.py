# SPDX-License-Identifier: Apache-2.0
"""Owns the rule as nft is told it: one transaction that replaces our table, one for bridged traffic, one that removes.

Pure. Nothing here may switch connection tracking on, nor leave a moment without a rule.
"""

import re
from collections.abc import Iterable, Iterator

from ipc.messages.egress import Rule
from policy.egress import CANARY, FORWARDED_PREFIX, LOG_BYTES, LOG_GROUP, PORTS, REFUSED_PREFIX, TABLE

# nft's arguments: text on standard input; the tables that there are; our counters.
LOAD = ("-f", "-")
LIST = ("list", "tables")
LIST_COUNTERS = ("list", "counters", "table", "ip", TABLE)
FAMILIES = ("ip", "bridge")
_SYN = "tcp flags & (fin|syn|rst|ack) == syn"


def ruleset(rule: Rule, below: str = "", *, logged: bool = True, demux: bool = True) -> str:
    """The table of family ip that puts `rule` in force, in the place of the one that is there, if any.

    `below` is where below /sys/fs/cgroup cgroup2 is mounted ("unified" on hybrid machines). `demux`: the kernel finds
    an arriving packet's socket early (a sysctl), without which no owner can be told: then, by uid, only what leaves is
    judged. Counters: `refused`, what enforce refuses; `forwarded`; `tried`, the same at the canary; `guest0`, ...
    one a guest. ValueError for a cgroup that can't be one."""
    judged = rule.mode == "enforce" and (demux or rule.mechanism == "nft-cgroup")
    return _table(
        "ip",
        [
            *(f"counter {name} {{}}" for name in ("refused", "forwarded", "tried", *_guest_counters(rule))),
            _guarded(rule),
            *_chain("leaving", _leaving(rule, below, logged=logged)),
            *(_chain("arriving", _arriving(rule, below)) if judged else ()),
            *_base("output", [*_fragments(rule), *_ways_to("jump leaving")]),
            *_base("input", [*_own_machines_canary(), *(_ways_from(rule, "jump arriving") if judged else ())]),
            *_base("forward", [*_fragments(rule), *_forwarded(rule, logged=logged)]),
        ],
    )


def bridge(rule: Rule) -> str:
    """The table of family bridge: whoever is bridged past the host's own network stack. With mode observe it is empty
    of rules. A transaction of its own, for kernels that have no such family."""
    ways = ["ip daddr . tcp dport @guarded drop", "ip saddr . tcp sport @guarded drop"]
    return _table("bridge", [_guarded(rule), *_base("forward", ways if rule.mode == "enforce" else [])])


def removal(tables: Iterable[tuple[str, str]]) -> str:
    """What removes `tables`, (family, name) each, whether they are there or not; empty text for none."""
    return "".join(f"table {family} {name}\ndelete table {family} {name}\n" for family, name in tables)


def tables(listing: str) -> tuple[tuple[str, str], ...]:
    """(family, name) of every table in what `nft list tables` printed."""
    return tuple((family, name) for family, name in re.findall(r"^table (\S+) (\S+)$", listing, re.MULTILINE))


def ours(listing: str) -> tuple[tuple[str, str], ...]:
    """Those of `tables` that are our own."""
    return tuple(table for table in tables(listing) if table in {(family, TABLE) for family in FAMILIES})


def grants(listing: str) -> tuple[tuple[str, str], ...]:
    """Those of `tables` that are a grant's (policy/egress/redirect.py)."""
    return tuple(table for table in tables(listing) if re.fullmatch(rf"ip {TABLE}_grant_\d+", " ".join(table)))


def counters(listing: str) -> dict[str, int]:
    """Packets by counter, from what `nft list counters table ip TABLE` printed."""
    found = re.findall(r"counter (\w+) \{\s*packets (\d+)", listing)
    return {name: int(packets) for name, packets in found}


def _table(family: str, lines: Iterable[str]) -> str:
    """Declared first, so that deleting it can't fail; all three in one transaction."""
    body = "".join(f"\t{line}\n" for line in lines)
    return f"table {family} {TABLE}\ndelete table {family} {TABLE}\ntable {family} {TABLE} {{\n{body}}}\n"


def _guarded(rule: Rule) -> str:
    elements = ", ".join(f"{rule.address} . {port}" for port in PORTS)
    return f"set guarded {{ type ipv4_addr . inet_service; elements = {{ {elements} }} }}"


def _chain(name: str, rules: Iterable[str]) -> Iterator[str]:
    yield f"chain {name} {{"
    yield from (f"\t{rule}" for rule in rules)
    yield "}"


def _base(hook: str, rules: Iterable[str]) -> Iterator[str]:
    """A chain that begins at `hook`: after the address was translated, and after everybody else's filters."""
    return _chain(hook, [f"type filter hook {hook} priority 10; policy accept;", *rules])


def _ways_to(verdict: str) -> Iterator[str]:
    yield f"ip daddr . tcp dport @guarded {verdict}"
    yield f"ip daddr {CANARY} ip protocol tcp {verdict}"


def _ways_from(rule: Rule, verdict: str) -> Iterator[str]:
    """By uid not from the canary: on the loopback device no socket is found early. Nothing of the host's arrives there;
    where a grant is made of address translation, the answer to a handler does, and bears the host's address."""
    yield f"iif != lo ip saddr . tcp sport @guarded {verdict}"
    if rule.mechanism == "nft-cgroup":
        yield f"ip saddr {CANARY} ip protocol tcp {verdict}"


def _own_machines_canary() -> Iterator[str]:
    """A setting (route_localnet) lets containers reach addresses of the loopback device: not this one."""
    yield f"iif != lo ip daddr {CANARY} drop"


def _fragments(rule: Rule) -> Iterator[str]:
    """What comes after a first fragment has no port by which it could be judged; TCP of ours is never cut up."""
    if rule.mode == "enforce":
        yield f"ip daddr {rule.address} ip protocol tcp ip frag-off & 0x1fff != 0 drop"


def _leaving(rule: Rule, below: str, *, logged: bool) -> Iterator[str]:
    """Whose socket is it? The owner's match is true only where there is a full socket: whatever has none (an answer
    that the kernel itself gives, for a connection that nobody holds any more) is dropped, uncounted and unanswered."""
    yield from (f"{match} accept" for match in _own(rule, below))
    yield from (f"{match} counter name {name} accept" for name, match in _guests(rule, below))
    verdict = "accept" if rule.mode == "observe" else "reject with tcp reset"
    yield f"ip daddr {CANARY} meta skuid >= 0 counter name tried {verdict}"
    if logged:
        yield f"{_SYN} meta skuid >= 0 {_log(REFUSED_PREFIX)}"
    yield f"meta skuid >= 0 counter name refused {verdict}"
    if rule.mode == "enforce":
        yield "drop"


def _arriving(rule: Rule, below: str) -> Iterator[str]:
    """A reset carries nothing, and the one that refuses somebody has to arrive at him."""
    yield "tcp flags rst accept"
    yield from (f"{match} accept" for match in _own(rule, below))
    yield from (f"{match} accept" for _, match in _guests(rule, below))
    yield "drop"


def _forwarded(rule: Rule, *, logged: bool) -> Iterator[str]:
    """Containers and virtual machines behind this one: none of them is the supervisor."""
    verdict = "drop" if rule.mode == "enforce" else "accept"
    if logged:
        yield f"ip daddr . tcp dport @guarded {_SYN} {_log(FORWARDED_PREFIX)}"
    yield f"ip daddr . tcp dport @guarded counter name forwarded {verdict}"
    yield f"ip saddr . tcp sport @guarded {verdict}"


def _log(prefix: str) -> str:
    wanted = f'log prefix "{prefix}" group {LOG_GROUP} snaplen {LOG_BYTES} queue-threshold 1'
    return f"limit rate 10/second burst 20 packets {wanted}"


def _own(rule: Rule, below: str) -> Iterator[str]:
    """Nobody is admitted by an empty cgroup, which would be everybody's, nor by uid 0."""
    if rule.mechanism == "nft-cgroup" and rule.cgroup:
        yield _cgroup(rule.cgroup, below)
    if rule.mechanism == "nft-uid" and rule.uid:
        yield f"meta skuid {rule.uid}"


def _guests(rule: Rule, below: str) -> tuple[tuple[str, str], ...]:
    """(counter, match) of each."""
    if rule.mechanism == "nft-cgroup":
        return tuple(
            (f"guest{number}", _cgroup(guest, below)) for number, guest in enumerate(filter(None, rule.guests))
        )
    return (("guest0", "meta skuid 0"),) if rule.root_is_guest else ()


def _guest_counters(rule: Rule) -> Iterator[str]:
    return (name for name, _ in _guests(rule, ""))


def _cgroup(path: str, below: str) -> str:
    """Its match: nft finds the id by the folder below /sys/fs/cgroup; the kernel counts levels from its own root."""
    parts = path.split("/")
    if {"", ".", ".."} & {*parts}:
        raise ValueError(f"{path!r} is no path of a cgroup")
    return f'socket cgroupv2 level {len(parts)} "{f"{below}/" if below else ""}{path}"'
