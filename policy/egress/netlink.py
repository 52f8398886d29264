# SPDX-License-Identifier: Apache-2.0
"""Owns the layout that all netlink messages share: a header each, then attributes. Pure.

The kernel alone writes them; a length that does not fit ends the reading all the same.
"""

import struct
from collections.abc import Iterator

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
# The two bits above it tell of nesting and byte order.
_KIND = 0x3FFF


def messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, content) of each message of one read."""
    place = 0
    while place + _HEADER.size <= len(datagram):
        length, kind, _, _, _ = _HEADER.unpack_from(datagram, place)
        if not _HEADER.size <= length <= len(datagram) - place:
            return
        yield kind, datagram[place + _HEADER.size : place + length]
        place += _aligned(length)


def attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each attribute in `content`."""
    place = 0
    while place + _ATTRIBUTE.size <= len(content):
        length, kind = _ATTRIBUTE.unpack_from(content, place)
        if not _ATTRIBUTE.size <= length <= len(content) - place:
            return
        yield kind & _KIND, content[place + _ATTRIBUTE.size : place + length]
        place += _aligned(length)


def names(content: bytes, ours: str) -> bool:
    """Whether one message of nftables names `ours`: a table, a chain, or one that is jumped to; or one whose name is
    `ours` with a hyphen and more. Every name ends with a zero byte."""
    return any(f"{ours}{end}".encode() in content for end in "\0-")


def _aligned(length: int) -> int:
    return length + 3 & ~3
