# SPDX-License-Identifier: Apache-2.0
"""Owns the orders about the rule in front of the WireServer: put it in force, take it away; and their answer."""

from typing import Annotated, Literal

import msgspec

from ipc.messages.base import Cgroup, Message, Short

# By what the rule knows the supervisor's sockets: its cgroup, or the uid that they are made under.
Mechanism = Literal["nft-cgroup", "nft-uid", "iptables"]
Mode = Literal["observe", "enforce"]
Address = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}\Z")]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
SOCKETS_AT_ONCE = 4


class Rule(Message, frozen=True):
    """Who may exchange TCP packets with ports 80 and 32526 of `address`: sockets of `cgroup` (nft-cgroup), or sockets
    made under `uid`; and `guests`, cgroups of others who provision this VM. Where no cgroup can be told,
    `root_is_guest` admits what root makes, for as long as they provision. With mode observe nobody is refused.

    With iptables `cgroup` is where the sockets of `uid` are made: what arrives is for those alone. Empty: unjudged."""

    mechanism: Mechanism
    mode: Mode
    address: Address
    cgroup: Cgroup = ""
    uid: Annotated[int, msgspec.Meta(ge=0, le=61183)] = 0
    guests: Annotated[tuple[Cgroup, ...], msgspec.Meta(max_length=8)] = ()
    root_is_guest: bool = False


class GuardEgress(Message, frozen=True):
    """Put `rule` in force in one act, in the place of whatever of ours was there, and end the connections of others.

    `own_ports` are the local ports of our own connections, which stay. `leftovers`: what waagent left goes, too."""

    rule: Rule
    own_ports: Annotated[tuple[Port, ...], msgspec.Meta(max_length=16)] = ()
    leftovers: bool = False


class EgressGuarded(Message, frozen=True):
    """It is loaded, and refuses the committer itself, unless it says otherwise. Two descriptors: a netlink socket that
    hears of every change of the kernel's rules from now on (`deaf`: not of those of this mechanism), and the listening
    socket of the canary, which nobody but the supervisor can reach while the rule is in force.

    `ended` is how many connections of others were ended; -1 where the kernel can't. `untried`: why it can't be tried
    here and now, neither from outside nor from within; the canary then listens nowhere. `disturbed`: somebody changed
    rules in the same moment, maybe this one: nothing that was found out counts, it has to be loaded again.
    `lacking`: what of the rule can't be in force here."""

    fact: Short
    ended: Annotated[int, msgspec.Meta(ge=-1)] = -1
    untried: Short = ""
    disturbed: bool = False
    deaf: bool = False
    lacking: Short = ""


class OpenEgress(Message, frozen=True):
    """Take away all of ours: every table and rule of every mechanism. Answered by Committed."""


class MakeSockets(Message, frozen=True):
    """To a worker with the rule's uid: make `count` TCP sockets, and connect none."""

    count: Annotated[int, msgspec.Meta(ge=1, le=8)] = SOCKETS_AT_ONCE


class SocketsMade(Message, frozen=True):
    """With as many descriptors: TCP sockets of IPv4, unconnected, made under the worker's own uid. The supervisor takes
    SOCKETS_AT_ONCE and no other number."""
