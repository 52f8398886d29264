# SPDX-License-Identifier: Apache-2.0
"""Owns the messages about a grant to the WireServer: its redirect, and each request under it."""

from typing import Annotated

import msgspec

from ipc.messages.base import Cgroup, Message, Name, Short
from ipc.messages.grants import MOST_GRANTS, MOST_TARGET, HostPort, Method, WireGrant

# One address a grant, from the first on; nobody but root may listen on such a port.
FIRST_LISTENER, LISTENER_PORT = (127, 63, 129, 17), 326

Slot = Annotated[int, msgspec.Meta(ge=0, le=MOST_GRANTS - 1)]
Target = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_TARGET)]
Host = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}\Z")]


class OpenGrant(Message, frozen=True):
    """To the redirect committer: connections of `cgroup` to `port` of `address` go to the listener of `slot`, which
    nobody else reaches."""

    slot: Slot
    cgroup: Cgroup
    address: Host
    port: HostPort = 80


class RedirectAttached(Message, frozen=True):
    """It goes by programs of the cgroup. Four descriptors: the listening socket, a netlink socket that hears of every
    change of the kernel's rules from now on, and two that keep the programs attached, for as long as anybody has them.
    """

    fact: Short


class RedirectLoaded(Message, frozen=True):
    """It goes by a rule of address translation, which stays until CloseGrant. Two descriptors: the listening socket and
    the netlink socket."""

    fact: Short


class WatchGrant(Message, frozen=True):
    """To the redirect committer: put the table of an open grant in its place once more, and have it watched anew. Its
    listener stays. `natted`: it is open by address translation."""

    slot: Slot
    cgroup: Cgroup
    address: Host
    natted: bool
    port: HostPort = 80


class GrantWatched(Message, frozen=True):
    """It is in its place. One descriptor: a netlink socket that hears of every change from now on."""


class CloseGrant(Message, frozen=True):
    """To the redirect committer: nothing of ours is left of the redirect of `slot`. Answered by Committed."""

    slot: Slot


class Forward(Message, frozen=True):
    """To the forwarder: its one order. One descriptor: the listening socket, whose connections are `grant`'s and are
    meant for the grant's port of `address`."""

    grant: WireGrant
    address: Host


class ForwardRequest(Message, frozen=True):
    """Forwarder to supervisor: a request under the grant, all of it. One descriptor: a sealed memfd with the body.

    The answer is ForwardAnswer; until it has come nothing else is asked."""

    method: Method
    target: Target
    headers: Annotated[
        tuple[tuple[Name, Annotated[str, msgspec.Meta(max_length=1024)]], ...], msgspec.Meta(max_length=16)
    ]


class ForwardAnswer(Message, frozen=True):
    """Supervisor to forwarder. One descriptor: a sealed memfd with the body of the answer."""

    status: Annotated[int, msgspec.Meta(ge=200, le=599)]
    content_type: Annotated[str, msgspec.Meta(max_length=255)] = ""


class ForwardRefused(Message, frozen=True):
    """Forwarder to supervisor: a request that it answered with `status` itself, and what was wrong with it.

    The answer is RefusalNoted."""

    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    problem: Short


class RefusalNoted(Message, frozen=True):
    """Supervisor to forwarder: go on."""
