# SPDX-License-Identifier: Apache-2.0
"""Mutations of UDF images that know where the descriptors are, what their fields mean, and sign what they changed.

Plain flips die at the checksums; here nine of ten changed descriptors get a right checksum and CRC again.
"""

import binascii
import random
import struct
from collections.abc import Callable
from typing import NamedTuple

from tests.fuzz.medium import Medium

# By kind of descriptor: (byte, struct form) of each field that a reader may trust too much.
TAG_FIELDS = [(0, "<H"), (2, "<H"), (8, "<H"), (10, "<H"), (12, "<I")]
FIELDS: dict[int, list[tuple[int, str]]] = {
    0: [(48, "<H"), (50, "<H"), (56, "<I"), (60, "<I")],
    2: [(16, "<I"), (20, "<I"), (24, "<I"), (28, "<I")],
    3: [(20, "<I"), (24, "<I")],
    5: [(16, "<I"), (22, "<H"), (188, "<I"), (192, "<I")],
    6: [(16, "<I"), (212, "<I"), (248, "<I"), (252, "<I"), (256, "<H"), (264, "<I"), (268, "<I")]
    + [(440 + at, form) for start in (0, 6) for at, form in [(0, "<B"), (1, "<B"), (2, "<H"), (4, "<H")]]
    + [(440 + start + at, form) for start in (0, 6) for at, form in [(5, "<B"), (16, "<B"), (36, "<H"), (38, "<H")]]
    + [(440 + start + at, "<I") for start in (0, 6) for at in (40, 42, 44, 48, 52, 56)],
    256: [(400, "<I"), (404, "<I"), (408, "<H")],
    257: [(18, "<B"), (19, "<B"), (20, "<I"), (24, "<I"), (28, "<H"), (36, "<H"), (38, "<B"), (39, "<B")],
    258: [(20, "<I"), *((24 + 4 * n, "<I") for n in range(10))],
    259: [(20, "<H"), (36, "<I"), (40, "<I"), (44, "<H")],
    261: [(20, "<H"), (27, "<B"), (34, "<H"), (56, "<Q"), (168, "<I"), (172, "<I")]
    + [(start + 4 * n, "<I") for start in (176, 200) for n in range(9)],
    266: [(20, "<H"), (27, "<B"), (34, "<H"), (56, "<Q"), (208, "<I"), (212, "<I")]
    + [(start + 4 * n, "<I") for start in (216, 240) for n in range(9)],
}
COPIED = (0, 2, 5, 6)  # of these a medium has several, and a reader that refuses one takes the next
EVEN = [0, 1, 2, 3, 4, 5, 8, 16, 24, 255, 256, 512, 2048, 4096, 0x7FFF, 0xFFFF, 0x3FFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF]
HIGH_BITS = (1 << 30, 2 << 30, 3 << 30)  # kinds of extent: not recorded, not allocated, continued


class Descriptor(NamedTuple):
    """A tagged structure: where it is, and of which kind."""

    at: int
    kind: int


class Image(NamedTuple):
    """A seed with the places of its descriptors, also by kind: no kind is rare only because it stands there once."""

    medium: Medium
    descriptors: list[Descriptor]
    by_kind: dict[int, list[Descriptor]]
    blocks: list[int]  # numbers that stand in the image as places: what a wrong pointer may well point to


def survey(medium: Medium) -> Image:
    """Every descriptor on 512 byte bounds, and the entries that follow one another in directories."""
    found = []
    for at in range(0, medium.full_bytes - 16, 512):
        while True:
            tag = medium.read(at, 16)
            kind = struct.unpack_from("<H", tag)[0] if len(tag) == 16 and tag_sum(tag) == tag[4] else 0xFFFF
            if kind > 266 or (kind == 0 and medium.read(at + 17, 12) != b"*UDF Sparing"):
                break
            found.append(Descriptor(at, kind))
            if kind != 257:
                break
            at += 38 + medium.number("<B", at + 19) + medium.number("<H", at + 36) + 3 & ~3  # noqa: PLW2901
    by_kind: dict[int, list[Descriptor]] = {}
    for each in found:
        if each.kind in FIELDS:
            by_kind.setdefault(each.kind, []).append(each)
    places = {medium.number("<I", each.at + 12) for each in found}
    return Image(medium, found, by_kind, sorted(places))


def tag_sum(tag: bytes) -> int:
    return (sum(tag[:4]) + sum(tag[5:16])) % 256


def sign(medium: Medium, at: int) -> None:
    """A right CRC and checksum for what stands there now."""
    tag = bytearray(medium.read(at, 16))
    if len(tag) == 16:
        body = medium.read(at + 16, min(struct.unpack_from("<H", tag, 10)[0], 32768))
        struct.pack_into("<H", tag, 8, binascii.crc_hqx(body, 0))
        tag[4] = tag_sum(bytes(tag))
        medium.write(at, bytes(tag))


def mutate(image: Image, draw: random.Random) -> None:
    """One to five changes."""
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 5))):
        draw.choice(OPERATIONS)(image, draw)


def _set_field(image: Image, draw: random.Random) -> None:
    chosen = _choose(image, draw)
    fields = FIELDS.get(chosen.kind, TAG_FIELDS) if draw.random() < 0.9 else TAG_FIELDS
    offset, form = draw.choice(fields)
    value = _value(image, draw, image.medium.number(form, chosen.at + offset))
    width = struct.calcsize(form)
    changed = [chosen]
    if chosen.kind in COPIED and draw.random() < 0.7:
        changed = image.by_kind[chosen.kind]
    for each in changed:
        image.medium.write(each.at + offset, (value & (1 << 8 * width) - 1).to_bytes(width, "little"))
    if draw.random() < 0.9:
        for each in changed:
            sign(image.medium, each.at)


def _choose(image: Image, draw: random.Random) -> Descriptor:
    if draw.random() < 0.8:
        return draw.choice(image.by_kind[draw.choice(list(image.by_kind))])
    return draw.choice(image.descriptors)


def _value(image: Image, draw: random.Random, before: int) -> int:
    match draw.randrange(6):
        case 0:
            return draw.choice(EVEN)
        case 1:
            return before + draw.choice((-512, -2, -1, 1, 2, 512))
        case 2:
            return before ^ draw.choice(HIGH_BITS)
        case 3:
            return draw.choice(image.blocks)
        case 4:
            return before ^ 1 << draw.randrange(32)
    return draw.getrandbits(draw.choice((4, 8, 16, 31, 32, 64)))


def _flip(image: Image, draw: random.Random) -> None:
    chosen = _choose(image, draw)
    image.medium.write(chosen.at + draw.randrange(512), draw.randbytes(draw.choice((1, 1, 2, 4, 8))))
    if draw.random() < 0.5:
        sign(image.medium, chosen.at)


def _repeat(image: Image, draw: random.Random) -> None:
    """One descriptor in the place of another, mostly with the place in its tag put right."""
    source, target = _choose(image, draw), _choose(image, draw)
    data = bytearray(image.medium.read(source.at, 512))
    if draw.random() < 0.8:
        data[12:16] = image.medium.read(target.at + 12, 4)
    image.medium.write(target.at, bytes(data))
    sign(image.medium, target.at)


def _swap(image: Image, draw: random.Random) -> None:
    """Two words of one descriptor for each other: extents, lengths and places change roles."""
    chosen = _choose(image, draw)
    start = 176 if chosen.kind == 261 else 216 if chosen.kind == 266 else 16
    first, second = (chosen.at + start + 4 * draw.randrange(24) for _ in range(2))
    one, other = image.medium.read(first, 4), image.medium.read(second, 4)
    image.medium.write(first, other)
    image.medium.write(second, one)
    sign(image.medium, chosen.at)


def _splice(image: Image, draw: random.Random) -> None:
    """A run of the image over another: data where structures are, structures where data is."""
    source, target = (draw.randrange(image.medium.full_bytes // 512) * 512 for _ in range(2))
    if draw.random() < 0.8:
        target = _choose(image, draw).at
    image.medium.write(target, image.medium.read(source, draw.choice((512, 2048, 4096))))


def _cut(image: Image, draw: random.Random) -> None:
    end = _choose(image, draw).at + draw.choice((0, 1, 16, 100, 512))
    image.medium.size_bytes = max(1, min(end, image.medium.full_bytes))


OPERATIONS: list[Callable[[Image, random.Random], None]] = [_set_field] * 12
OPERATIONS += [_flip, _flip, _repeat, _repeat, _swap, _swap, _splice, _cut]
