# SPDX-License-Identifier: Apache-2.0
"""Owns the UDF volume (ECMA-167 part 3): anchor, descriptor sequence, partitions; runs in the parser; parses no files.

Recognition descriptors at byte 32768 are not asked for: a bridge whose ISO9660 descriptors were wiped lost them too.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ipc.errors import InputError
from workers.parser import udf_tags as tags
from workers.parser.blocks import Blocks

BLOCK_SIZES = (2048, 512, 4096, 1024, 8192, 16384, 32768)
MAX_SEQUENCE_BLOCKS = 256
MAX_SEQUENCES = 8
MAX_PARTITION_MAPS = 8
MAX_SPARING_BYTES = 256 * 1024


class Partition(Protocol):
    """Where the blocks of a partition lie on the medium."""

    def absolute(self, block: int) -> int:
        """The medium's block that holds the partition's `block`. Raises InputError for one that does not exist."""
        ...


class Physical(NamedTuple):
    """Contiguous blocks of the medium."""

    start: int
    length: int

    def absolute(self, block: int) -> int:
        if block >= self.length:
            raise InputError("partition", f"block {block} is past its end, {self.length}")
        return self.start + block


class Sparable(NamedTuple):
    """UDF 2.2.9: packets of blocks that went bad are found elsewhere; `spared` maps first block to the medium's."""

    base: Physical
    packet: int
    spared: dict[int, int]

    def absolute(self, block: int) -> int:
        rest = block % self.packet
        place = self.spared.get(block - rest)
        return self.base.absolute(block) if place is None else place + rest


class Derived(NamedTuple):
    """A virtual or metadata partition map, to be resolved by a file on `base`: `location` and `mirror` of its ICB."""

    kind: str
    base: Partition
    location: int
    mirror: int


class Volume:
    """A logical volume: the size of its blocks, its partitions by reference number, where its file set is."""

    def __init__(self, blocks: Blocks, block_bytes: int, file_set: tags.Extent) -> None:
        self._blocks = blocks
        self.block_bytes = block_bytes
        self.block_count = blocks.size_bytes // block_bytes
        self.file_set = file_set
        self.partitions: list[Partition | Derived] = []

    def partition(self, reference: int | None) -> Partition:
        """The partition with this reference number."""
        if reference is None or reference >= len(self.partitions):
            raise InputError("partition", f"reference {reference} is none of {len(self.partitions)}")
        partition = self.partitions[reference]
        if isinstance(partition, Derived):
            raise InputError("partition", f"reference {reference} is not usable yet")
        return partition

    def read(self, partition: Partition, block: int, length: int, what: str) -> bytes:
        """`length` bytes from the start of `block`, block by block since neighbours may lie apart."""
        pieces = []
        for index in range(-(-length // self.block_bytes)):
            take = min(self.block_bytes, length - index * self.block_bytes)
            pieces.append(self.read_absolute(partition.absolute(block + index), take, what))
        return b"".join(pieces)

    def read_absolute(self, block: int, length: int, what: str) -> bytes:
        """`length` bytes from the medium's `block`."""
        return self._blocks.read(block * self.block_bytes, length, what)


def open_volume(blocks: Blocks) -> Volume:
    """The logical volume of a medium. Raises InputError: the first anchor's problem, or that there is none."""
    problem = InputError("UDF anchor", "there is none, at no place and for no block size")
    found = False
    for block_bytes, anchor in _anchors(blocks):
        for name, offset in (("main", 16), ("reserve", 24)):
            length, location = struct.unpack_from("<II", anchor, offset)
            try:
                return _read_sequence(blocks, block_bytes, length, location, f"UDF {name} volume descriptors")
            except InputError as error:
                problem, found = (problem if found else error), True
    raise problem


def _anchors(blocks: Blocks) -> Iterator[tuple[int, bytes]]:
    """Valid anchors with the block size that their place tells, the usual first."""
    for block_bytes in BLOCK_SIZES:
        count = blocks.size_bytes // block_bytes
        for location in dict.fromkeys((256, count - 1, count - 257, count - 256, 512)):
            if not 0 < location < count:
                continue
            data = blocks.read(location * block_bytes, 512, f"UDF anchor, block {location}")
            try:
                tags.check_tag(data, (tags.ANCHOR,), location, "UDF anchor")
            except InputError:
                continue
            yield block_bytes, data


def _read_sequence(blocks: Blocks, block_bytes: int, length: int, location: int, what: str) -> Volume:
    """The volume that a descriptor sequence describes; of several descriptors the highest sequence number prevails."""
    volume: tuple[int, bytes] | None = None
    partitions: dict[int, tuple[int, Physical]] = {}
    for kind, data in _descriptors(blocks, block_bytes, length, location, what):
        sequence = struct.unpack_from("<I", data, 16)[0]
        if kind == tags.LOGICAL_VOLUME and (volume is None or sequence >= volume[0]):
            volume = (sequence, data)
        elif kind == tags.PARTITION:
            number, start, count = struct.unpack_from("<22xH164xII", data)
            if number not in partitions or sequence >= partitions[number][0]:
                partitions[number] = (sequence, Physical(start, count))
    if volume is None:
        raise InputError(what, "no logical volume descriptor")
    return _make_volume(blocks, block_bytes, volume[1], {n: part for n, (_, part) in partitions.items()})


def _descriptors(
    blocks: Blocks, block_bytes: int, length: int, location: int, what: str
) -> Iterator[tuple[int, bytes]]:
    """Partition and logical volume descriptors, through pointers to further sequences, up to the terminator."""
    for _ in range(MAX_SEQUENCES):
        following: tuple[int, int] | None = None
        for block in range(location, location + min(length // block_bytes, MAX_SEQUENCE_BLOCKS)):
            where = f"{what}, block {block}"
            data = blocks.read(block * block_bytes, block_bytes, where)
            if struct.unpack_from("<H", data)[0] not in range(1, 10):
                break
            if struct.unpack_from("<H", data)[0] in (1, 2, 4, 7, 9):
                continue  # of no use here, and some are longer than a block, out of a single block's CRC's reach
            kind = tags.check_tag(data, (3, 5, 6, 8), block, where)
            if kind == tags.TERMINATOR:
                return
            if kind == tags.VOLUME_POINTER:
                following = struct.unpack_from("<II", data, 20)
                break
            yield kind, data
        if following is None:
            return
        length, location = following
    raise InputError(what, f"more than {MAX_SEQUENCES} sequences")


def _make_volume(blocks: Blocks, block_bytes: int, data: bytes, partitions: dict[int, Physical]) -> Volume:
    what = "UDF logical volume descriptor"
    stated, table_bytes, count = struct.unpack_from("<212xI48xII", data)
    if stated != block_bytes:
        raise InputError(what, f"blocks of {stated} bytes on sectors of {block_bytes}")
    if not 1 <= count <= MAX_PARTITION_MAPS or 440 + table_bytes > len(data):
        raise InputError(what, f"{count} partition maps in {table_bytes} bytes")
    volume = Volume(blocks, block_bytes, tags.long_extent(data, 248))
    table, offset, bases = data[440 : 440 + table_bytes], 0, dict[int, Partition]()
    for _ in range(count):
        length = table[offset + 1] if offset + 1 < len(table) else 0
        partition_map = table[offset : offset + length]
        if len(partition_map) != length or (length, *partition_map[:1]) not in ((6, 1), (64, 2)):
            raise InputError(what, f"the partition map at byte {offset} is of no known kind")
        volume.partitions.append(_resolve(volume, partition_map, partitions, bases))
        offset += length
    return volume


def _resolve(
    volume: Volume, partition_map: bytes, partitions: dict[int, Physical], bases: dict[int, Partition]
) -> Partition | Derived:
    """The partition of one map. `bases` collects, by partition number, what later maps are laid over."""
    what = "UDF partition map"
    number = struct.unpack_from("<H", partition_map, 4 if partition_map[0] == 1 else 38)[0]
    physical = partitions.get(number)
    if physical is None:
        raise InputError(what, f"there is no partition {number}")
    identifier = b"" if partition_map[0] == 1 else partition_map[5:28].rstrip(b"\0")
    match identifier:
        case b"":
            return bases.setdefault(number, physical)
        case b"*UDF Sparable Partition":
            return bases.setdefault(number, _sparable(volume, partition_map, physical))
        case b"*UDF Virtual Partition":
            return Derived("virtual", bases.get(number, physical), 0, 0)
        case b"*UDF Metadata Partition":
            location, mirror = struct.unpack_from("<II", partition_map, 40)
            return Derived("metadata", bases.get(number, physical), location, mirror)
    raise InputError(what, "is of a type that UDF does not know")


def _sparable(volume: Volume, partition_map: bytes, physical: Physical) -> Sparable:
    """The first valid of up to four copies of the sparing table (UDF 2.2.12)."""
    packet, count, size, *places = struct.unpack_from("<HBxI4I", partition_map, 40)
    what = "UDF sparing table"
    if packet == 0 or size > MAX_SPARING_BYTES:
        raise InputError(what, f"packets of {packet} blocks, {size} bytes")
    problem = InputError(what, "there is none")
    for place in places[: min(count, 4)]:
        try:
            data = volume.read_absolute(place, size, what)
            tags.check_tag(data, (0,), place, what)
            entries = struct.unpack_from("<H", data, 48)[0]
            pairs = struct.unpack_from(f"<{2 * entries}I", data, 56)
        except struct.error:
            problem = InputError(what, "is cut off")
        except InputError as error:
            problem = error
        else:
            return Sparable(physical, packet, dict(zip(pairs[::2], pairs[1::2], strict=True)))
    raise problem
