# SPDX-License-Identifier: Apache-2.0
"""Owns what is loaded in the kernel, as nft, iptables and ebtables list it: ours, and what another agent left.

Runs in the process of `agent-supervisor firewall`, as root. It only looks, and never makes the kernel load what it
has not: iptables and ebtables are asked about a table only where somebody uses it.
"""

import os

import msgspec

from ipc.messages.egress import Mechanism
from policy.egress import TABLE, ebtables, iptables, leftovers, nft
from supervisor.cli.firewall_programs import Programs

LEGACY_TABLES = "/proc/net/ip_tables_names"
# The module of the older ebtables' one table that ours is in.
LEGACY_FRAMES = "/sys/module/ebtable_filter"
# All chains: others may lead into ours.
LIST_CHAINS = ("-w", "-S")


class Loaded(msgspec.Struct, frozen=True):
    """`tables`, `chains` and `frames` (those of ebtables, None for none) are ours, as listed; `counters` in packets by
    name. `foreign` are nft's tables of others, `grants` those of grants.

    `left_table` and `left_rules` (arguments of iptables that delete each): what another agent left."""

    tables: dict[str, str] = {}
    chains: tuple[str, ...] = ()
    counters: dict[str, int] = {}
    foreign: tuple[tuple[str, str], ...] = ()
    grants: tuple[tuple[str, str], ...] = ()
    left_table: bool = False
    left_rules: tuple[tuple[str, ...], ...] = ()
    frames: tuple[str, ...] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether a rule of ours is there (the bridge's table is but an addition)."""
        return "ip" in self.tables or bool(self.chains)

    @property
    def listing(self) -> list[str]:
        """All of ours, line by line."""
        tables = [line for text in self.tables.values() for line in text.splitlines()]
        return [*tables, *self.chains, *(self.frames or ())]

    @property
    def left(self) -> list[str]:
        """What another agent left, for people."""
        family, name = leftovers.TABLE
        table = [f"table {family} {name}"] if self.left_table else []
        return [*table, *(f"iptables {' '.join(rule)}".replace(" -D ", " -A ") for rule in self.left_rules)]


def loaded(programs: Programs, address: str, *, freely: bool = False) -> Loaded:
    """What is there now; `address` is the WireServer's, of which others' rules are.

    `freely`: iptables is asked whoever uses it, as in a network that nobody else is in."""
    listing = programs.run("nft", nft.LIST).out
    tables = nft.tables(listing)
    used = {name for family, name in tables if family == "ip"} | _words(LEGACY_TABLES)
    # Without nft nobody tells which tables iptables has by way of nf_tables.
    blind = freely or not programs.has("nft")
    chains = iptables.ours(programs.run("iptables", LIST_CHAINS).out) if blind or "filter" in used else ()
    security = programs.run("iptables", leftovers.LIST).out if blind or "security" in used else ""
    bridging = blind or ("bridge", "filter") in tables or os.path.exists(LEGACY_FRAMES)
    mechanism: Mechanism = "nft-cgroup" if ("ip", TABLE) in tables else "iptables"
    return Loaded(
        {family: programs.run("nft", ("-s", "list", "table", family, name)).out for family, name in nft.ours(listing)},
        chains,
        packets(programs, mechanism) if chains or mechanism != "iptables" else {},
        tuple(table for table in tables if table not in {*nft.ours(listing), *nft.grants(listing)}),
        nft.grants(listing),
        leftovers.TABLE in tables,
        leftovers.removals(security, address),
        frames(programs) if bridging else None,
    )


def frames(programs: Programs) -> tuple[str, ...] | None:
    """What ebtables has of ours, None for no chain."""
    chain = programs.run("ebtables", ebtables.LIST_OURS)
    return ebtables.ours(chain.out, programs.run("ebtables", ebtables.LIST_HOOK).out) if chain.well else None


def packets(programs: Programs, mechanism: Mechanism) -> dict[str, int]:
    """How many a rule by `mechanism` has seen since it was loaded, by counter; nothing where there is none."""
    if mechanism == "iptables":
        return iptables.counters(programs.run("iptables", ("-w", "-v", "-S")).out)
    return nft.counters(programs.run("nft", nft.LIST_COUNTERS).out)


def _words(path: str) -> set[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return set(file.read().split())
    except OSError:
        return set()
