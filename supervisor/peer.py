# SPDX-License-Identifier: Apache-2.0
"""Owns who is at the other end of a Unix socket, by the kernel's word and no peer's; runs in the supervisor."""

import contextlib
import errno
import os
import select
import socket
import struct

import msgspec

# Not in the socket module. PEERPIDFD came with Linux 6.5.
SO_PEERGROUPS = 59
SO_PEERPIDFD = 77
CREDENTIALS = struct.Struct("iII")
# As much as Python's getsockopt takes: 256 groups.
GROUPS_BYTES = 1024
MAX_CGROUP_BYTES = 16 * 1024


class Peer(msgspec.Struct, frozen=True):
    """The process that connected, as it was then. `pidfd` is -1 when there is none; `close_peer` ends it."""

    pid: int
    uid: int
    groups: frozenset[int]
    pidfd: int = -1

    def __str__(self) -> str:
        return f"uid {self.uid} pid {self.pid}"


def identify(connection: socket.socket) -> Peer:
    """Who connected; OSError when the kernel does not say."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, gid = CREDENTIALS.unpack(raw)
    return Peer(pid, uid, frozenset({gid, *_groups(connection)}), _pidfd(connection, pid))


def close_peer(peer: Peer) -> None:
    """Let go of the peer's pidfd."""
    if peer.pidfd >= 0:
        with contextlib.suppress(OSError):
            os.close(peer.pidfd)


def cgroup_of(peer: Peer, proc: str | os.PathLike[str]) -> str | None:
    """The text of the peer's cgroup file; None when it is gone, or can't be told for certain."""
    if peer.pid <= 0 or peer.pidfd < 0:
        return None
    try:
        with open(f"{os.fspath(proc)}/{peer.pid}/cgroup", "rb") as file:
            content = file.read(MAX_CGROUP_BYTES + 1)
    except OSError:
        return None
    # Still alive after the reading: so the pid was its own all the time, and what was read is about it.
    if len(content) > MAX_CGROUP_BYTES or _exited(peer.pidfd):
        return None
    return content.decode("utf-8", "surrogateescape")


def _groups(connection: socket.socket) -> tuple[int, ...]:
    """The supplementary groups; none for a process in more than fit."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


def _pidfd(connection: socket.socket, pid: int) -> int:
    try:
        return connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            return -1
    # An older kernel: the pid could have been taken over between connect and here, by a process of root's.
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def _exited(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
