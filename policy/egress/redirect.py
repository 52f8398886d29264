# SPDX-License-Identifier: Apache-2.0
"""Owns the table of a grant as nft is told it: who reaches its listener, and where need be the way there.

Pure. A table of its own for each grant, so that one comes and goes without the others. Without `natted` nothing in it
switches connection tracking on.
"""

from ipc.messages.base import Cgroup
from ipc.messages.forwarding import FIRST_LISTENER, LISTENER_PORT
from policy.egress import TABLE

Address = tuple[str, int]


def can_be_a_host(address: str) -> bool:
    """Whether the dotted IPv4 `address` can be another machine's beyond this one's own link."""
    try:
        numbers = tuple(map(int, address.split(".")))
    except ValueError:
        return False
    if len(numbers) != 4 or not all(0 <= number <= 255 for number in numbers):
        return False
    return 0 < numbers[0] < 224 and numbers[0] != 127 and numbers[:2] != (169, 254)


def listener(slot: int) -> Address:
    """Address and port at which the requests of the grant in `slot` arrive."""
    *network, last = FIRST_LISTENER
    return ".".join(map(str, (*network, last + slot))), LISTENER_PORT


def table(slot: int) -> str:
    """The name of its table, of family ip."""
    return f"{TABLE}_grant_{slot}"


def removal(slot: int) -> str:
    """What removes it, whether it is there or not."""
    return f"table ip {table(slot)}\ndelete table ip {table(slot)}\n"


def ruleset(slot: int, cgroup: Cgroup, below: str, natted_from: Address | None = None) -> str:
    """One transaction, in the place of what is there: sockets of `cgroup` alone reach the listener of `slot`.

    `natted_from`: besides, their connections to that address and port are translated, and so tracked. `below` is where
    below /sys/fs/cgroup cgroup2 is mounted. ValueError for a cgroup that can't be one."""
    address, port = listener(slot)
    own = match(cgroup, below)
    lines = [
        "chain output {",
        "\ttype filter hook output priority 10; policy accept;",
        f"\tip daddr {address} tcp dport {port} {own} accept",
        f"\tip daddr {address} ip protocol tcp counter reject with tcp reset",
        "}",
        # From elsewhere it comes where loopback addresses are routed (route_localnet), as from containers. By the name
        # of lo: to look for its number is more than nft may do here.
        "chain input {",
        "\ttype filter hook input priority 10; policy accept;",
        f'\tiifname != "lo" ip daddr {address} drop',
        "}",
    ]
    if natted_from is not None:
        lines += [
            "chain way {",
            "\ttype nat hook output priority -100; policy accept;",
            f"\tip daddr {natted_from[0]} tcp dport {natted_from[1]} {own} dnat to {address}:{port}",
            "}",
        ]
    body = "".join(f"\t{line}\n" for line in lines)
    return f"{removal(slot)}table ip {table(slot)} {{\n{body}}}\n"


def match(cgroup: Cgroup, below: str) -> str:
    """What is true of sockets of `cgroup` and of the groups below it."""
    parts = cgroup.split("/")
    if {"", ".", ".."} & {*parts}:
        raise ValueError(f"{cgroup!r} is no path of a cgroup")
    return f'socket cgroupv2 level {len(parts)} "{f"{below}/" if below else ""}{cgroup}"'
