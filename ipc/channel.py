# SPDX-License-Identifier: Apache-2.0
"""Owns what every worker's channel is, and the one over a packet socket alone; `ipc.pair` has the one over ZeroMQ.

Used by supervisor and workers. Who is at the other end is known from the socket, never from a message. The
supervisor's ends never wait; a worker's ends do.
"""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ipc.codec import MAX_FRAME_BYTES, decode, encode
from ipc.descriptors import close_all, receive_packet, send_packet
from ipc.errors import BadDescriptor, ChannelClosed, MalformedMessage
from ipc.messages import Message

if TYPE_CHECKING:
    import zmq

Received = tuple[Message, tuple[int, ...]]


class Channel(Protocol):
    """What both kinds of channel do."""

    @property
    def source(self) -> "zmq.Socket[bytes] | int":
        """What a poller watches to learn that something has come."""

    @property
    def is_connected(self) -> bool:
        """False once there was a peer, is none any more, and nothing of it is left to be read."""

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send; the caller keeps its descriptors. ChannelClosed when the peer is gone."""

    def receive(self, timeout_s: float | None = None) -> Received:
        """The next message with its descriptors, which the caller owns. Waits at most `timeout_s` (None: for ever);
        ChannelClosed at the end or when nothing came; ProtocolViolation when the peer broke the rules."""

    def close(self) -> None:
        """Let go of it, after what was sent has left."""


class Sequenced:
    """Counts frames both ways: a lost, repeated or replayed one is a violation.

    `sent` and `received` are the numbers of the next frame each way."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0

    def encode(self, message: Message, descriptors: Sequence[int]) -> bytes:
        """The next frame to send."""
        frame = encode(message, self.sent, len(descriptors))
        self.sent += 1
        return frame

    def decode(self, frame: bytes) -> tuple[Message, int]:
        """What the next frame holds, and how many descriptors come with it."""
        decoded = decode(frame)
        if decoded.sequence != self.received:
            raise MalformedMessage(f"frame {decoded.sequence} came where {self.received} was due")
        self.received += 1
        return decoded.message, decoded.descriptors


class PacketChannel(Sequenced):
    """A channel over one SEQPACKET socket: all that a one-shot worker needs."""

    def __init__(self, peer: socket.socket) -> None:
        super().__init__()
        self._peer = peer

    @property
    def source(self) -> int:
        return self._peer.fileno()

    @property
    def is_connected(self) -> bool:
        """True: the end of this one is heard of as it comes, by a read."""
        return True

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        send_packet(self._peer, self.encode(message, descriptors), descriptors)

    def receive(self, timeout_s: float | None = None) -> Received:
        self._peer.settimeout(timeout_s)
        try:
            packet, descriptors = receive_packet(self._peer, MAX_FRAME_BYTES + 1)
        except (TimeoutError, BlockingIOError):
            raise ChannelClosed("nothing came in time") from None
        try:
            message, announced = self.decode(packet)
            if announced != len(descriptors):
                raise BadDescriptor(f"{len(descriptors)} descriptors came where {announced} were announced")
        except (MalformedMessage, BadDescriptor):
            close_all(descriptors)
            raise
        return message, descriptors

    def close(self) -> None:
        self._peer.close()
