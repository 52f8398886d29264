# SPDX-License-Identifier: Apache-2.0
"""Owns DER's tags and lengths: one element after the other, nothing of what is in them.

Runs in the opener, on what OpenSSL has written there. It must never read beyond the bytes that it was given.
"""

from typing import NamedTuple

from ipc.errors import InputError

INTEGER, BIT_STRING, OCTET_STRING, OBJECT, SEQUENCE, SET = 0x02, 0x03, 0x04, 0x06, 0x30, 0x31
MOST_LENGTH_BYTES = 4
MOST_ELEMENTS = 256


class Element(NamedTuple):
    """One tag with its content."""

    tag: int
    content: bytes


def elements(data: bytes) -> list[Element]:
    """All elements that `data` is made of. InputError when it isn't."""
    found: list[Element] = []
    while data:
        if len(found) == MOST_ELEMENTS:
            raise InputError("DER", f"more than {MOST_ELEMENTS} elements in one")
        element, data = _first(data)
        found.append(element)
    return found


def inner(element: Element, tag: int = SEQUENCE) -> list[Element]:
    """The elements within one that has to have `tag`."""
    return elements(content(element, tag))


def content(element: Element, tag: int) -> bytes:
    """The content of one that has to have `tag`."""
    if element.tag != tag:
        raise InputError("DER", f"tag {element.tag:#04x} where {tag:#04x} was expected")
    return element.content


def at(found: list[Element], index: int) -> Element:
    """The element at `index`, which has to be there."""
    if index >= len(found):
        raise InputError("DER", f"{len(found)} elements, where {index + 1} were expected")
    return found[index]


def bits(element: Element) -> bytes:
    """The bytes of a bit string, which has to be made of whole ones."""
    data = content(element, BIT_STRING)
    if data[:1] != b"\0":
        raise InputError("DER", "a bit string that is not made of bytes")
    return data[1:]


def _first(data: bytes) -> tuple[Element, bytes]:
    if len(data) < 2:
        raise InputError("DER", "ends within an element")
    tag, length, begin = data[0], data[1], 2
    if length > 127:
        begin += length - 128
        if not 0 < length - 128 <= MOST_LENGTH_BYTES or len(data) < begin:
            raise InputError("DER", "a length that is none")
        length = int.from_bytes(data[2:begin], "big")
    if len(data) - begin < length:
        raise InputError("DER", "ends within an element")
    return Element(tag, data[begin : begin + length]), data[begin + length :]
