# SPDX-License-Identifier: Apache-2.0
"""Owns how descriptors and bulk bytes cross a process boundary: SCM_RIGHTS packets and sealed memfds.

Used by every process. It never maps a received file and never keeps a descriptor that nobody asked for.
"""

import fcntl
import os
import socket
import stat
from array import array
from collections.abc import Sequence

from ipc.errors import BadDescriptor, ChannelClosed

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
MAX_RECEIVED = 8
_RIGHTS_BYTES = socket.CMSG_SPACE(MAX_RECEIVED * 4)


def sealed_memfd(name: str, content: bytes) -> int:
    """A descriptor of an unnamed file with `content` that nobody can change any more; `name` shows in /proc only."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def sealed_size(descriptor: int, limit: int) -> int:
    """The size of a sealed memfd of at most `limit` bytes; BadDescriptor for anything else."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise BadDescriptor("not a regular file")
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        raise BadDescriptor("not a memfd") from None
    if seals & SEALS != SEALS:
        raise BadDescriptor("not sealed")
    if status.st_size > limit:
        raise BadDescriptor(f"{status.st_size} bytes are over the limit of {limit}")
    return status.st_size


def read_sealed(descriptor: int, limit: int) -> bytes:
    """The whole content of a sealed memfd of at most `limit` bytes; BadDescriptor for anything else."""
    return read_part(descriptor, 0, sealed_size(descriptor, limit))


def read_part(descriptor: int, start: int, size: int) -> bytes:
    """`size` bytes of a file from `start` on; BadDescriptor when it ends before."""
    content = bytearray()
    while len(content) < size:
        piece = os.pread(descriptor, size - len(content), start + len(content))
        if not piece:
            raise BadDescriptor("shorter than its size")
        content += piece
    return bytes(content)


def send_packet(peer: socket.socket, packet: bytes, descriptors: Sequence[int] = ()) -> None:
    """One packet with its descriptors, without waiting. ChannelClosed when the peer is gone or does not read."""
    try:
        # Not socket.send_fds, nor recv_fds below: CPython's take flags and drop them.
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        peer.sendmsg([packet], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError, BlockingIOError) as error:
        raise ChannelClosed(f"peer does not take packets: {error.strerror}") from None


def receive_packet(peer: socket.socket, limit: int) -> tuple[bytes, tuple[int, ...]]:
    """The next packet and its descriptors, which the caller owns; waits as the socket is set to.

    ChannelClosed at the end, BadDescriptor for a cut packet or too many descriptors (all of them closed)."""
    try:
        packet, ancillary, flags, _ = peer.recvmsg(limit, _RIGHTS_BYTES, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        raise ChannelClosed("peer reset the channel") from None
    descriptors = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        close_all(descriptors)
        raise BadDescriptor("packet or descriptors cut off")
    if not packet:
        close_all(descriptors)
        raise ChannelClosed("peer closed the channel")
    return packet, tuple(descriptors)


def close_all(descriptors: Sequence[int]) -> None:
    """Close every one of `descriptors`."""
    for descriptor in descriptors:
        os.close(descriptor)


def packet_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected packet sockets, neither inherited by a new program."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
