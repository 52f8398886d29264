# SPDX-License-Identifier: Apache-2.0
"""Owns the opening of the kernel's log of refused packets: a netlink socket bound to one group of NFLOG.

Runs in the egress committer, with CAP_NET_ADMIN, which binding asks for; reading does not, so the supervisor reads.
"""

import os
import socket
import struct

from ipc.errors import CommitError

NETFILTER = 12
_CONFIGURE = 4 << 8 | 1
_REQUEST_ACKNOWLEDGED = 1 | 4
_ERROR = 2
_COMMAND, _MODE = 1, 2
_BIND_GROUP, _COPY_PACKET = 1, 2
# The two headers of an IPv4 packet, options included.
SNAP_BYTES = 124
RECEIVE_BYTES = 64 * 1024


def open_log(group: int) -> socket.socket:
    """The log of `group`, from now on. CommitError when the kernel has none, or another program reads that group."""
    log = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER)
    try:
        log.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        log.bind((0, 0))
        _configure(log, group, struct.pack("=HHB3x", 5, _COMMAND, _BIND_GROUP))
        _configure(log, group, struct.pack("=HH", 10, _MODE) + struct.pack("!IBx2x", SNAP_BYTES, _COPY_PACKET))
    except OSError as error:
        log.close()
        raise CommitError(f"the kernel's log of refused packets can't be read: {error.strerror}") from None
    return log


def _configure(log: socket.socket, group: int, attribute: bytes) -> None:
    content = struct.pack("!BBH", socket.AF_INET, 0, group) + attribute
    log.send(struct.pack("=IHHII", 16 + len(content), _CONFIGURE, _REQUEST_ACKNOWLEDGED, 1, 0) + content)
    answer = log.recv(4096)
    kind, code = struct.unpack_from("=4xH10xi", answer)
    if kind != _ERROR or code:
        raise OSError(-code, os.strerror(-code))
