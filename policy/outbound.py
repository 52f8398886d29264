# SPDX-License-Identifier: Apache-2.0
"""Owns how an entry of an outbound list is read: an address or a prefix of IPv4 or IPv6, as text.

Pure, and small: the warden of a contained command loads it, too.
"""

import socket

_MAPPED = b"\0" * 10 + b"\xff\xff"


def prefix(text: str) -> tuple[bytes, int]:
    """The address in network order, 4 or 16 bytes, and how many of its bits count; ValueError says what is wrong."""
    written, slash, length = text.partition("/")
    family = socket.AF_INET6 if ":" in written else socket.AF_INET
    try:
        address = socket.inet_pton(family, written)
    except OSError:
        raise ValueError(f"{text} is neither an address nor a prefix, such as 10.1.0.0/16 or 2001:db8::/32") from None
    most = 8 * len(address)
    bits = int(length) if slash else most
    if bits > most:
        raise ValueError(f"{text}: such an address has {most} bits")
    if family == socket.AF_INET6 and address.startswith(_MAPPED):
        raise ValueError(f"{text} is an address of IPv4: write it as one")
    number = int.from_bytes(address, "big")
    first = number >> (most - bits) << (most - bits)
    if number != first:
        meant = socket.inet_ntop(family, first.to_bytes(len(address), "big"))
        raise ValueError(f"{text} has bits behind the prefix: is {meant}/{bits} meant, or {written}?")
    return address, bits
