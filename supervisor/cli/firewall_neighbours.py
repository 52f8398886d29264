# SPDX-License-Identifier: Apache-2.0
"""Owns who else has rules on this machine, and how ours lives beside theirs; runs in `agent-supervisor firewall`.

It asks systemd what runs, and takes what nft lists; it touches nothing.
"""

from collections.abc import Iterable

import msgspec

from supervisor.cli.firewall_programs import Programs

_PUT_BACK = "what it throws away of ours is put back within a second by the running agent"
_RELOADED = f"a reload or a restart flushes every table: {_PUT_BACK}"
# iptables' rules of others, flushed with the table that ours are in.
_IPTABLES = (
    "leaves nft tables of others alone; iptables rules of others go with its reload, ours too where it is by iptables: "
    "they are put back within a second by the running agent"
)

# By the service that keeps them.
SERVICES = {
    "firewalld.service": _IPTABLES,
    "nftables.service": _RELOADED,
    "netfilter-persistent.service": f"{_IPTABLES}; where it has nft rules saved, {_RELOADED}",
    "iptables.service": _IPTABLES,
    "ufw.service": "keeps to chains of its own in iptables' tables; our rule is judged besides, none undoes the other",
    "docker.service": "keeps to tables of its own; what containers send is forwarded, and refused there",
    "kubelet.service": "kube-proxy keeps to tables of its own; pods are refused where they are forwarded",
}
# By a table of nft's, where no service tells.
TABLES = {
    "firewalld": "firewalld.service",
    "kube-proxy": "kubelet.service",
}


class Neighbour(msgspec.Struct, frozen=True):
    """One of them: its service, and how ours lives beside it."""

    name: str
    beside: str


def neighbours(programs: Programs, tables: Iterable[tuple[str, str]] = ()) -> list[Neighbour]:
    """Those whose service is active, or of which one of nft's `tables`, (family, name), is."""
    names = list(SERVICES)
    states = programs.run("systemctl", ("is-active", *names)).out.split()
    active = {name for name, state in zip(names, states, strict=False) if state == "active"}
    active |= {TABLES[name] for _, name in tables if name in TABLES}
    return [Neighbour(name, SERVICES[name]) for name in names if name in active]
