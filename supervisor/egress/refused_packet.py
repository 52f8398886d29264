# SPDX-License-Identifier: Apache-2.0
"""Owns the layout of the kernel's log of packets (NFLOG): which first packets were refused, whose, and for which port.

Used by the supervisor. Pure; the kernel writes what is around a packet, and of the packet four numbers are read.
"""

import socket
import struct
from collections.abc import Iterator

import msgspec

from policy.egress.netlink import attributes, messages

_PACKET_MESSAGE = 4 << 8
_FAMILY_BYTES = 4
_HOOK, _PAYLOAD, _UID = 1, 9, 11
_FORWARD = 2
_ADDRESSES = struct.Struct("!12x4s4s")
_PORTS = struct.Struct("!HH")
_TCP = 6


class RefusedPacket(msgspec.Struct, frozen=True):
    """A first packet (SYN). `uid` is None for one that was only passed on, for a container or another machine."""

    source: str
    source_port: int
    port: int
    uid: int | None = None


def refused_packets(datagram: bytes) -> Iterator[RefusedPacket]:
    """All that `datagram`, one read of the netlink socket, tells of; what is no whole TCP packet is passed over."""
    for kind, content in messages(datagram):
        if kind == _PACKET_MESSAGE:
            found = _packet(dict(attributes(content[_FAMILY_BYTES:])))
            if found is not None:
                yield found


def _packet(held: dict[int, bytes]) -> RefusedPacket | None:
    payload, hook, owner = (held.get(kind, b"") for kind in (_PAYLOAD, _HOOK, _UID))
    header_bytes = 4 * (payload[0] & 15) if payload else 0
    if len(payload) < max(20, header_bytes) + _PORTS.size or payload[0] >> 4 != 4 or payload[9] != _TCP:
        return None
    source, _ = _ADDRESSES.unpack_from(payload)
    source_port, port = _PORTS.unpack_from(payload, header_bytes)
    passed_on = len(hook) == 4 and hook[2] == _FORWARD
    uid = int.from_bytes(owner, "big") if len(owner) == 4 and not passed_on else None
    return RefusedPacket(socket.inet_ntoa(source), source_port, port, uid)
