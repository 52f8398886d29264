# SPDX-License-Identifier: Apache-2.0
"""Owns the rule about bridged traffic as ebtables is told it, beside that of iptables: one chain of our own.

Pure. Everything here is an argument list: not every ebtables takes a text that leaves what it doesn't name.
"""

from ipc.messages.egress import Rule
from policy.egress import MARK, PORTS

CHAIN, HOOK = MARK, "FORWARD"
# By number: names would be looked up in files. Listed are both, by whether ebtables finds these.
_IPV4, _TCP = "0x0800", "6"
_LISTED = {"IPv4": _IPV4, "0x800": _IPV4, "tcp": _TCP}
_LEADS = ("-p", _IPV4, "-j", CHAIN)
# What lists our chain (it fails when there is none), and the one from which it is reached.
LIST_OURS, LIST_HOOK = ("-L", CHAIN), ("-L", HOOK)
# Fails where the chain is there already.
MAKE = ("-N", CHAIN, "-P", "RETURN")


def ours(chain: str, hook: str) -> tuple[str, ...]:
    """Our rules in what LIST_OURS and LIST_HOOK printed, and how our chain is reached, in one form."""
    return (*_rules(chain, CHAIN), *(line for line in _rules(hook, HOOK) if line.endswith(f" -j {CHAIN}")))


def wanted(rule: Rule) -> tuple[str, ...]:
    """What `ours` finds where `rule` is in force; nothing for one that refuses nobody."""
    if rule.mode != "enforce":
        return ()
    ways = (f"--ip-{way} {rule.address} --ip-proto {_TCP} --ip-{end}port" for way, end in (("dst", "d"), ("src", "s")))
    inner = (f"-p {_IPV4} {way} {port} -j DROP" for way in ways for port in PORTS)
    return (*(f"-A {CHAIN} {each}" for each in inner), f"-A {HOOK} {' '.join(_LEADS)}")


def filling(rule: Rule, there: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The commands that put `rule` in force in our chain, which is there; `there` is what `ours` found."""
    inner = tuple(tuple(line.split()) for line in wanted(rule) if line.startswith(f"-A {CHAIN} "))
    hooked = any(line.startswith(f"-A {HOOK} ") for line in there)
    return (("-F", CHAIN), *inner, *(() if hooked else (("-I", HOOK, *_LEADS),)))


def removing(there: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The commands that remove our chain, which is there, and whatever leads into it."""
    leading = tuple(("-D", *line.split()[1:]) for line in there if line.startswith(f"-A {HOOK} "))
    return (*leading, ("-F", CHAIN), ("-X", CHAIN))


def _rules(listing: str, chain: str) -> tuple[str, ...]:
    lines = (" ".join(_LISTED.get(word, word) for word in line.split()) for line in listing.splitlines())
    return tuple(f"-A {chain} {line}" for line in lines if line.startswith("-"))
