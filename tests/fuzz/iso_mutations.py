# SPDX-License-Identifier: Apache-2.0
"""Mutations of ISO9660 images that know volume descriptors, path tables, directory records and Rock Ridge entries.

Numbers that the format keeps in both byte orders are mostly changed in both alike.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from tests.fuzz.medium import Medium

SECTOR = 2048
# Of a volume descriptor: type, version, blocks, set size, block size, path table size and places, root record.
VOLUME = [(0, 1), (6, 1), (80, 8), (120, 4), (124, 4), (128, 4), (132, 8), (140, 4), (144, 4), (148, 4), (152, 4)]
VOLUME += [(156 + at, width) for at, width in ((0, 1), (1, 1), (2, 8), (10, 8), (25, 1), (28, 4), (32, 1), (33, 1))]
# Of a directory record: length, extended attributes, extent, size, date, flags, interleaving, name.
RECORD = [
    (0, 1),
    (1, 1),
    (2, 8),
    (2, 8),
    (10, 8),
    (10, 8),
    (18, 1),
    (25, 1),
    (26, 1),
    (27, 1),
    (28, 4),
    (32, 1),
    (33, 1),
]
ENTRY_NAMES = (b"NM", b"CE", b"SP", b"RR", b"PX", b"TF", b"SL", b"CL", b"PL", b"RE", b"ER", b"ST", b"SF", b"ES", b"PD")
EVEN = [0, 1, 2, 3, 16, 17, 18, 19, 20, 127, 128, 254, 255, 256, 2047, 2048, 2049, 4096, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]


class Image(NamedTuple):
    """A seed with the places of its structures."""

    medium: Medium
    volumes: list[int]
    records: list[int]
    entries: list[int]


def survey(medium: Medium) -> Image:
    """Volume descriptors from sector 16 on, and the records of the folders that their roots lead to."""
    volumes = []
    for sector in range(16, 32):
        if medium.read(sector * SECTOR + 1, 5) != b"CD001":
            break
        volumes.append(sector * SECTOR)
    records = []
    for at in (medium.number("<I", at + 158) * SECTOR for at in volumes if medium.read(at, 1) in (b"\1", b"\2")):
        place = at
        while length := medium.number("<B", place):
            records.append(place)
            place += length
    return Image(medium, volumes, records, [found for at in records for found in _entries(medium, at)])


def _entries(medium: Medium, record: int) -> list[int]:
    """Where Rock Ridge's entries of a record stand."""
    end = record + medium.number("<B", record)
    name = medium.number("<B", record + 32)
    at, found = record + 33 + name + (1 - name % 2), []
    while at + 4 <= end and medium.read(at, 2) in ENTRY_NAMES and medium.number("<B", at + 2):
        found.append(at)
        at += medium.number("<B", at + 2)
    return found


def mutate(image: Image, draw: random.Random) -> None:
    """One to five changes."""
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 5))):
        draw.choice(OPERATIONS)(image, draw)


def _set(image: Image, draw: random.Random, at: int, width: int) -> None:
    before = image.medium.number("<B" if width == 1 else "<H" if width == 4 else "<I", at)
    value = draw.choice(
        (
            draw.choice(EVEN),
            before + draw.choice((-1, 1, 2, -2)),
            before ^ 1 << draw.randrange(32),
            draw.getrandbits(32),
        )
    )
    if width == 1:
        return image.medium.write(at, bytes([value & 0xFF]))
    half = width // 2
    value &= (1 << 8 * half) - 1
    other = value if draw.random() < 0.9 else draw.choice(EVEN) & (1 << 8 * half) - 1
    return image.medium.write(at, value.to_bytes(half, "little") + other.to_bytes(half, "big"))


def _volume(image: Image, draw: random.Random) -> None:
    offset, width = draw.choice(VOLUME)
    _set(image, draw, draw.choice(image.volumes) + offset, width)


def _record(image: Image, draw: random.Random) -> None:
    offset, width = draw.choice(RECORD)
    _set(image, draw, draw.choice(image.records) + offset, width)


def _entry(image: Image, draw: random.Random) -> None:
    """Name, length, version or one of the numbers of a Rock Ridge entry; other seeds have none."""
    if image.entries:
        at = draw.choice(image.entries)
        if draw.random() < 0.2:
            return image.medium.write(at, draw.choice(ENTRY_NAMES))
        offset, width = draw.choice(((2, 1), (2, 1), (3, 1), (4, 1), (5, 1), (4, 8), (12, 8), (20, 8)))
        return _set(image, draw, at + offset, width)
    return _record(image, draw)


def _repeat(image: Image, draw: random.Random) -> None:
    source, target = (draw.choice(image.records) for _ in range(2))
    image.medium.write(target, image.medium.read(source, max(image.medium.number("<B", source), 34)))


def _flip(image: Image, draw: random.Random) -> None:
    at = draw.choice(image.records if draw.random() < 0.7 else image.volumes)
    image.medium.write(at + draw.randrange(250), draw.randbytes(draw.choice((1, 1, 2, 4, 8))))


def _splice(image: Image, draw: random.Random) -> None:
    sectors = [at // SECTOR for at in (*image.volumes, *image.records)] + list(range(16, 40))
    source, target = (draw.choice(sectors) * SECTOR for _ in range(2))
    image.medium.write(target, image.medium.read(source, SECTOR))


def _cut(image: Image, draw: random.Random) -> None:
    end = draw.choice((*image.volumes, *image.records)) + draw.choice((0, 1, 33, 100, SECTOR))
    image.medium.size_bytes = min(end, image.medium.full_bytes)


OPERATIONS: list[Callable[[Image, random.Random], None]]
OPERATIONS = [*[_volume] * 3, *[_record] * 5, *[_entry] * 4, _repeat, _flip, _flip, _splice, _cut]
