# SPDX-License-Identifier: Apache-2.0
"""Owns the end of connections that others opened to the WireServer before the rule: socket diagnosis destroys them.

Runs in the egress committer, which has its companion run ss. Never touches a connection whose port is our own.
"""

from collections.abc import Collection

from policy.egress import PORTS
from workers.committers.tools import Tools


def end(tools: Tools, address: str, own_ports: Collection[int]) -> int:
    """End all TCP connections of this network namespace to the guarded ports of `address`, but those of `own_ports`.

    How many there were; -1 when the kernel, or this system, can't end any."""
    if not tools.find("ss"):
        return -1
    chosen = _filter(address, own_ports)
    there = _lines(tools, "-Htn", *chosen)
    if not there:
        return 0
    ended = _lines(tools, "-KHtn", *chosen)
    return ended or -1


def _lines(tools: Tools, *arguments: str) -> int:
    outcome = tools.run("ss", *arguments)
    return len(outcome.text.splitlines()) if outcome.status == 0 else 0


def _filter(address: str, own_ports: Collection[int]) -> list[str]:
    """As ss wants it, word by word. A socket of IPv6 that speaks IPv4 shows the address in its own form."""
    places = [f"{place}:{port}" for place in (address, f"[::ffff:{address}]") for port in PORTS]
    # What has ended already waits for nobody.
    words = ["state", "connected", "exclude", "time-wait", "("]
    for place in places:
        words += [*([] if words[-1] == "(" else ["or"]), "dst", place]
    words.append(")")
    for port in own_ports:
        words += ["and", "not", "sport", "=", f":{port}"]
    return words
