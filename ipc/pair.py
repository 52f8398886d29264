# SPDX-License-Identifier: Apache-2.0
"""Owns both ends of a channel over a ZeroMQ PAIR with a packet socket beside it.

Used by supervisor and workers, which load it, and ZeroMQ with it, when they first need it.
"""

import socket
import struct
from collections.abc import Sequence

import zmq

from ipc.channel import Received, Sequenced
from ipc.codec import MAX_FRAME_BYTES
from ipc.descriptors import close_all, receive_packet, send_packet
from ipc.errors import BadDescriptor, ChannelClosed, MalformedMessage
from ipc.messages import Message

HIGH_WATER = 64
HANDSHAKE_MS = 1000
FAREWELL_MS = 2000
_BESIDE = struct.Struct("<Q")


class ZmqChannel(Sequenced):
    """A channel over a ZeroMQ PAIR; descriptors come over `beside`, sent before the frame that announces them."""

    def __init__(self, pair: zmq.Socket[bytes], beside: socket.socket, peer_uid: int | None = None) -> None:
        super().__init__()
        self.pair = pair
        self._beside = beside
        self._peer_uid = peer_uid

    @property
    def source(self) -> zmq.Socket[bytes]:
        return self.pair

    @property
    def is_connected(self) -> bool:
        """A PAIR without a peer takes nothing to send; nor does one whose peer leaves 64 frames unread: as bad."""
        return not self.received or bool(self.pair.getsockopt(zmq.EVENTS))

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        frame = self.encode(message, descriptors)
        if descriptors:
            send_packet(self._beside, _BESIDE.pack(self.sent - 1), descriptors)
        try:
            # The worker's end may still be connecting: it waits, within SNDTIMEO. The supervisor's never does.
            self.pair.send(frame, zmq.NOBLOCK if self._peer_uid is not None else 0)
        except zmq.Again:
            raise ChannelClosed("peer does not take frames") from None

    def receive(self, timeout_s: float | None = None) -> Received:
        if not self._wait(timeout_s):
            raise ChannelClosed("nothing came in time")
        try:
            frame = self.pair.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            raise ChannelClosed("nothing came in time") from None
        if self.pair.getsockopt(zmq.RCVMORE):
            raise MalformedMessage("frame in several parts")
        self._check_peer(frame)
        message, announced = self.decode(bytes(frame.buffer))
        return message, self._take_descriptors(announced)

    def close(self) -> None:
        if self._peer_uid is not None:
            self.pair.close(linger=0)
        else:
            # A thread sends what is left, and only `term` waits for it: the worker's process ends right afterwards.
            self.pair.close(linger=FAREWELL_MS)
            self.pair.context.term()
        self._beside.close()

    def _wait(self, timeout_s: float | None) -> bool:
        """True once a frame is there. The worker's end also ends when the packet socket does: the supervisor died."""
        if timeout_s == 0:
            return True
        poller = zmq.Poller()
        poller.register(self.pair, zmq.POLLIN)
        poller.register(self._beside.fileno(), zmq.POLLERR)  # only hang-up: packets are fetched with their frame
        events = dict(poller.poll(None if timeout_s is None else int(timeout_s * 1000)))
        if self.pair in events:
            return True
        if events:
            raise ChannelClosed("peer closed the channel")
        return False

    def _check_peer(self, frame: zmq.Frame) -> None:
        """The kernel's word on who connected: the listening socket's folder admits only it, this confirms it."""
        if self._peer_uid is None:
            return
        try:
            uid = str(frame.get("Peer-Address")).rpartition("localhost:")[2].split(":")[0]
        except zmq.ZMQError:
            # A greeting of ZMTP's first version, which names nobody, is still answered by libzmq.
            raise MalformedMessage("frame of a peer that says nothing of itself") from None
        if uid != str(self._peer_uid):
            raise MalformedMessage(f"frame from uid {uid} where {self._peer_uid} was due")

    def _take_descriptors(self, announced: int) -> tuple[int, ...]:
        if not announced:
            return ()
        self._beside.setblocking(False)
        try:
            packet, descriptors = receive_packet(self._beside, _BESIDE.size + 1)
        except BlockingIOError:
            raise BadDescriptor(f"{announced} descriptors were announced, none came") from None
        if packet != _BESIDE.pack(self.received - 1) or len(descriptors) != announced:
            close_all(descriptors)
            raise BadDescriptor("descriptors that do not belong to their frame")
        return descriptors


def context() -> zmq.Context[zmq.Socket[bytes]]:
    """A new one; it starts a thread at its first socket, so never in a process that forks afterwards."""
    return zmq.Context(io_threads=1)


def connect(context: zmq.Context[zmq.Socket[bytes]], path: str, beside: socket.socket) -> ZmqChannel:
    """A worker's end: connects to the supervisor's listening socket at `path`. `context` is the channel's alone."""
    pair = context.socket(zmq.PAIR)
    _set_limits(pair)
    pair.setsockopt(zmq.LINGER, FAREWELL_MS)
    pair.setsockopt(zmq.SNDTIMEO, FAREWELL_MS)
    pair.connect(f"ipc://{path}")
    return ZmqChannel(pair, beside)


def listen(
    context: zmq.Context[zmq.Socket[bytes]], path: str, listener: socket.socket, beside: socket.socket, peer_uid: int
) -> ZmqChannel:
    """The supervisor's end, over a socket that already listens at `path` with the right mode and owner.

    `listener` is taken over: libzmq closes it."""
    pair = context.socket(zmq.PAIR)
    _set_limits(pair)
    pair.setsockopt(zmq.LINGER, 0)
    pair.setsockopt(zmq.IPC_FILTER_UID, peer_uid)
    pair.setsockopt(zmq.USE_FD, listener.detach())
    pair.bind(f"ipc://{path}")
    return ZmqChannel(pair, beside, peer_uid)


def _set_limits(pair: zmq.Socket[bytes]) -> None:
    pair.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    pair.setsockopt(zmq.SNDHWM, HIGH_WATER)
    pair.setsockopt(zmq.RCVHWM, HIGH_WATER)
    pair.setsockopt(zmq.IMMEDIATE, 1)
    pair.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    pair.setsockopt(zmq.RECONNECT_IVL, -1)
