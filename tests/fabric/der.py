# SPDX-License-Identifier: Apache-2.0
"""Owns the writing of DER: what the emulated host's envelopes and key stores are made of.

Runs in test processes. It reads nothing.
"""

SEQUENCE, SET, INTEGER, OCTETS, NULL, IDENTIFIER, BMP_TEXT = 0x30, 0x31, 0x02, 0x04, 0x05, 0x06, 0x1E


def tagged(tag: int, *parts: bytes) -> bytes:
    """One element: tag, length, and `parts` one after the other."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content


def sequence(*parts: bytes) -> bytes:
    return tagged(SEQUENCE, *parts)


def context(number: int, *parts: bytes, constructed: bool = True) -> bytes:
    """An element with a tag of its context."""
    return tagged((0xA0 if constructed else 0x80) | number, *parts)


def integer(value: int) -> bytes:
    """A number from 0 on."""
    return tagged(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octets(content: bytes) -> bytes:
    return tagged(OCTETS, content)


def identifier(dotted: str) -> bytes:
    """An object identifier."""
    first, second, *others = map(int, dotted.split("."))
    content = b""
    for arc in (first * 40 + second, *others):
        part = bytes((arc & 0x7F,))
        while arc := arc >> 7:
            part = bytes((0x80 | arc & 0x7F,)) + part
        content += part
    return tagged(IDENTIFIER, content)


def algorithm(dotted: str, *parameters: bytes) -> bytes:
    """An algorithm and its parameters."""
    return sequence(identifier(dotted), *parameters)


NOTHING = tagged(NULL)
