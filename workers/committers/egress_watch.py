# SPDX-License-Identifier: Apache-2.0
"""Owns the netlink socket on which the kernel tells of every change of nftables' rules, up to the load of our own.

Runs in the egress committer, with CAP_NET_ADMIN, which joining the group asks for; reading does not. What it reads off
must be this committer's own transactions and others' about other tables, never one that changed ours unseen.
"""

import errno
import socket
from collections.abc import Iterator
from typing import NamedTuple

from ipc.errors import CommitError
from policy.egress.leftovers import TABLE as FORMER
from policy.egress.netlink import messages, names

NETFILTER, ROUTE = 12, 0
# NFNLGRP_NFTABLES; the mask of groups counts from 1.
_CHANGES = 1 << 6
_SO_RCVBUFFORCE = 33
_NEWTABLE, _NEWGEN, _NFTABLES = 0, 15, 10
_OVERFLOWN = -1
_LARGEST = 64 * 1024
# What others load may be tens of thousands of rules at once. Taken only while it waits to be read.
BUFFER_BYTES = 4 << 20


def open_watch(*, or_deaf: bool = False) -> socket.socket:
    """It hears of every change from now on. CommitError when the kernel has no nftables; with `or_deaf` a socket then
    that hears nothing."""
    try:
        watch = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER)
        try:
            watch.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
            watch.bind((0, _CHANGES))
        except OSError:
            watch.close()
            raise
    except OSError as error:
        if or_deaf:
            return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, ROUTE)
        raise CommitError(f"the kernel does not let itself be heard about nftables: {error.strerror}") from None
    return watch


class Heard(NamedTuple):
    """`disturbed`: what somebody else did, empty when nobody did anything. `former`: another agent's table was there,
    and went. `ours`: transactions about what is ours."""

    disturbed: str
    former: bool
    ours: int = 0


def read_off(watch: socket.socket, own: int, ours: str) -> None:
    """As `heard`; CommitError when it was disturbed."""
    disturbed = heard(watch, own, ours).disturbed
    if disturbed:
        raise CommitError(disturbed)


def heard(watch: socket.socket, own: int, ours: str) -> Heard:
    """Read what has been told so far. What bears the name `ours` (policy.egress.netlink.names) has to be changed in
    exactly `own` transactions: any other is somebody else's, and has to be answered."""
    transactions, touched, former, declared = 0, False, False, False
    for kind, content in _told(watch):
        if kind == _OVERFLOWN:
            return Heard("rules were changed faster than the kernel could tell of it", former)
        if kind == _NEWGEN:
            transactions, touched = transactions + touched, False
            continue
        touched = touched or names(content, ours)
        theirs = names(content, FORMER[1])
        # Removing it takes declaring it first, of which nothing is told where it is there already.
        declared = declared or (theirs and kind == _NEWTABLE)
        former = former or (theirs and not declared)
    others = f"what is named {ours} was changed {transactions} times while it was loaded, not {own}"
    return Heard("" if transactions == own else others, former, transactions)


def _told(watch: socket.socket) -> Iterator[tuple[int, bytes]]:
    """(what happened, in what words) of each message that waits to be read."""
    while True:
        try:
            datagram, sender = watch.recvfrom(_LARGEST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield _OVERFLOWN, b""
            continue
        # The kernel's own messages alone.
        if sender[0] == 0:
            yield from ((kind & 0xFF, content) for kind, content in messages(datagram) if kind >> 8 == _NFTABLES)
