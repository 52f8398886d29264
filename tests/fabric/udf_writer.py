# SPDX-License-Identifier: Apache-2.0
"""Writes small pure UDF images from scratch, in every form the reader must know, and broken ones on demand.

Shares no code with the reader: what both misunderstand alike is caught by images of the Linux kernel and genisoimage.
"""

import itertools
import struct
from dataclasses import dataclass
from typing import Literal

PARTITION_START = 288
MAIN_SEQUENCE, RESERVE_SEQUENCE, INTEGRITY = 128, 144, 160
SPARING_TABLES, SPARE_PACKET, PACKET = (170, 174), 192, 16
FILE_SET, ROOT, FILE, OLD_FILE, CONTINUATION, DIRECTORY, DATA = 0, 2, 4, 6, 8, 10, 16

Fault = Literal[
    "none", "directory-loop", "continuation-loop", "sequence-loop", "version-loop", "extent-past-end", "claims-4-gib"
]


@dataclass(frozen=True)
class UdfForm:
    """How an image is made. `fragments` extents hold the file, from the second on in a continuation if `continued`.

    `deleted_entry`: an entry of the same name, marked deleted, stands before the live one."""

    block_bytes: int = 2048
    revision: int = 0x0102
    partition: Literal["physical", "sparable", "virtual", "metadata"] = "physical"
    allocation: Literal["short", "long", "extended", "embedded"] = "short"
    extended_entry: bool = False
    strategy: Literal[4, 4096] = 4
    fragments: int = 1
    continued: bool = False
    file_name: str = "ovf-env.xml"
    wide_names: bool = False
    deleted_entry: bool = False
    damaged_main_sequence: bool = False
    fault: Fault = "none"
    least_bytes: int = 0


def make_udf(content: bytes, form: UdfForm | None = None) -> bytes:
    """An image whose root folder holds `content` as one file."""
    return _Writer(content, form or UdfForm()).image()


def crc(data: bytes) -> int:
    """ECMA-167 7.2.6, bit by bit."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ (0x1021 if value & 0x8000 else 0)) & 0xFFFF
    return value


def tagged(kind: int, location: int, body: bytes, version: int = 2) -> bytes:
    """`body` behind the descriptor tag that fits it."""
    tag = bytearray(struct.pack("<HHBBHHHI", kind, version, 0, 0, 1, crc(body), len(body), location))
    tag[4] = sum(tag) % 256
    return bytes(tag) + body


def _entity(name: bytes, suffix: bytes = b"") -> bytes:
    return b"\0" + name.ljust(23, b"\0") + suffix.ljust(8, b"\0")


def _dstring(text: str, size: int) -> bytes:
    raw = b"\x08" + text.encode("latin-1")
    return raw.ljust(size - 1, b"\0") + bytes([len(raw)])


_CHARSET = (b"\0" + b"OSTA Compressed Unicode").ljust(64, b"\0")
_TIME = struct.pack("<HH8B", 0x1000, 2024, 1, 2, 3, 4, 5, 0, 0, 0)


def _version(form: UdfForm) -> int:
    return 3 if form.revision >= 0x200 else 2


def _file_entry(form: UdfForm, location: int, kind: int, size: int, number: int, descriptors: bytes) -> bytes:
    attributes = bytes(24)  # opaque: only its length matters to a reader
    icb = struct.pack("<IHHHBBIHH", 0, form.strategy, 0, 1, 0, kind, 0, 0, number)
    head = icb + struct.pack("<IIIHBBI", 0, 0, 0x14A5, 1, 0, 0, 0)
    tail = struct.pack("<QII", 16, len(attributes), len(descriptors)) + attributes + descriptors
    if not form.extended_entry:
        middle = struct.pack("<QQ", size, 1) + 3 * _TIME + struct.pack("<I", 1) + bytes(16) + _entity(b"*tests")
        return tagged(261, location, head + middle + tail, _version(form))
    middle = struct.pack("<QQQ", size, size, 1) + 4 * _TIME + struct.pack("<II", 1, 0) + bytes(32) + _entity(b"*tests")
    return tagged(266, location, head + middle + tail, _version(form))


def _partition_maps(form: UdfForm) -> tuple[int, bytes]:
    first = struct.pack("<BBHH", 1, 6, 1, 0)
    match form.partition:
        case "physical":
            return 1, first
        case "sparable":
            tail = struct.pack("<HBxI4I", PACKET, 2, 512, *SPARING_TABLES, 0, 0)
            return 1, _second_kind(form, b"*UDF Sparable Partition", tail)
        case "virtual":
            return 2, first + _second_kind(form, b"*UDF Virtual Partition", b"")
    tail = struct.pack("<IIIIHB", 8, 9, 0xFFFFFFFF, 32, 1, 0)
    return 2, first + _second_kind(form, b"*UDF Metadata Partition", tail)


def _second_kind(form: UdfForm, name: bytes, tail: bytes) -> bytes:
    suffix = struct.pack("<H", form.revision)
    return (struct.pack("<BBH", 2, 64, 0) + _entity(name, suffix) + struct.pack("<HH", 1, 0) + tail).ljust(64, b"\0")


def _descriptor(form: UdfForm, length: int, block: int, reference: int) -> bytes:
    match form.allocation:
        case "short":
            return struct.pack("<II", length, block)
        case "long":
            return struct.pack("<IIH6x", length, block, reference)
    real = length & 0x3FFFFFFF
    return struct.pack("<IIIIH2x", length, real, real, block, reference)


def _cs0(form: UdfForm, name: str) -> bytes:
    return b"\x10" + name.encode("utf-16-be") if form.wide_names else b"\x08" + name.encode("latin-1")


class _Writer:
    """Fills `sectors`, then lays them out."""

    def __init__(self, content: bytes, form: UdfForm) -> None:
        self.form = form
        self.content = content
        self.block = form.block_bytes
        self.version = _version(form)
        self.domain = _entity(b"*OSTA UDF Compliant", struct.pack("<HB", form.revision, 0))
        self.sectors: dict[int, bytes] = {}  # by absolute block
        self.reference = 1 if form.partition in ("virtual", "metadata") else 0
        self.table: dict[int, int] = {}  # virtual partition: block to place
        self.pieces = self._pieces()
        self.data_reference = 0 if form.allocation in ("long", "extended") else self.reference
        self.highest = DATA + sum(-(-len(piece) // self.block) + 1 for piece in self.pieces)

    def image(self) -> bytes:
        self._write_file_set()
        self._write_files()
        self._write_metadata_files()
        if self.form.partition == "sparable":
            self._write_sparing_tables()
        used = max(self.sectors, default=PARTITION_START) + 32
        self.count = max(used, PARTITION_START + 2 * self.highest + 700, -(-self.form.least_bytes // self.block))
        self._write_virtual_table()
        self._write_recognition()
        self._write_sequences()
        image = bytearray(self.count * self.block)
        for place, data in self.sectors.items():
            image[place * self.block : place * self.block + len(data)] = data
        return bytes(image)

    # --- placing ------------------------------------------------------------------------------------------------

    def put(self, block: int, data: bytes, reference: int | None = None) -> None:
        """`data` at a partition's block; None is the partition that holds the file system's own structures."""
        where = self.reference if reference is None else reference
        for index in range(max(1, -(-len(data) // self.block))):
            piece = data[index * self.block : (index + 1) * self.block]
            self.sectors[self._place(block + index, where)] = piece

    def _place(self, block: int, reference: int) -> int:
        if reference == 0 and self.form.partition == "sparable" and block < PACKET:
            self.sectors[PARTITION_START + block] = b"worn out" * 8
            return SPARE_PACKET + block
        if reference == 0:
            return PARTITION_START + block
        if self.form.partition == "virtual":
            self.table[block] = 64 + 2 * block
            return PARTITION_START + self.table[block]
        return PARTITION_START + (32 + block if block < 4 else 96 + block)

    def _pieces(self) -> list[bytes]:
        blocks = -(-len(self.content) // self.block)
        each = max(1, blocks // self.form.fragments) * self.block
        bounds = [index * each for index in range(self.form.fragments)] + [len(self.content)]
        return [self.content[a:b] for a, b in itertools.pairwise(bounds)]

    # --- files --------------------------------------------------------------------------------------------------

    def _write_file_set(self) -> None:
        body = _TIME + struct.pack("<HHIIII", 3, 3, 1, 1, 0, 0) + _CHARSET + _dstring("vol", 128) + _CHARSET
        body += _dstring("set", 32) + bytes(64) + self._long(self.block, ROOT) + self.domain + bytes(48)
        self.put(FILE_SET, tagged(256, FILE_SET, body.ljust(496, b"\0"), self.version))

    def _write_files(self) -> None:
        form = self.form
        target = ROOT if form.fault == "directory-loop" else FILE
        entries = self._identifier(b"", ROOT, 0x0A)
        if form.deleted_entry:
            entries += self._identifier(_cs0(self.form, self.form.file_name), OLD_FILE, 0x04)
            old = b"<old/>"
            self.put(OLD_FILE, _file_entry(self.form, OLD_FILE, 5, len(old), 3, old))
        entries += self._identifier(_cs0(self.form, "folder"), ROOT, 0x02)
        entries += self._identifier(_cs0(self.form, self.form.file_name), target, 0x02 if target == ROOT else 0x00)
        self.put(DIRECTORY, entries)
        short = struct.pack("<II", len(entries), DIRECTORY)
        self.put(ROOT, _file_entry(self.form, ROOT, 4, len(entries), 0, short))
        size = 1 << 32 if form.fault == "claims-4-gib" else len(self.content)
        number = ("short", "long", "extended", "embedded").index(form.allocation)
        block = FILE
        if form.strategy == 4096:
            self.put(FILE, _file_entry(self.form, FILE, 5, 3, 3, b"old"))
            block = FILE if form.fault == "version-loop" else OLD_FILE
            indirect = struct.pack("<IHHHBBIHH", 0, 4096, 1, 2, 0, 3, 0, 0, 0) + self._long(2 * self.block, block)
            self.put(FILE + 1, tagged(259, FILE + 1, indirect, self.version))
            if form.fault == "version-loop":
                return
        self.put(block, _file_entry(self.form, block, 5, size, number, self._allocation()))

    def _allocation(self) -> bytes:
        if self.form.allocation == "embedded":
            return self.content
        position = self.highest
        described = []
        for piece in self.pieces:  # the first piece lies last
            position -= -(-len(piece) // self.block) + 1
            block = position + (600 if self.data_reference != self.reference else 0)
            self.put(block, piece, self.data_reference)
            if self.form.fault == "extent-past-end":
                block = 0x00FFFFFF
            described.append(_descriptor(self.form, len(piece), block, self.data_reference))
        if not self.form.continued:
            return b"".join(described)
        rest = b"".join(described[1:])
        self._write_continuation(rest)
        return described[0] + _descriptor(self.form, self.block | 3 << 30, CONTINUATION, self.reference)

    def _write_continuation(self, rest: bytes) -> None:
        if self.form.fault == "continuation-loop":
            rest = _descriptor(self.form, self.block | 3 << 30, CONTINUATION, self.reference)
        body = struct.pack("<II", 0, len(rest)) + rest
        self.put(CONTINUATION, tagged(258, CONTINUATION, body, self.version))

    def _identifier(self, name: bytes, block: int, bits: int) -> bytes:
        body = struct.pack("<HBB", 1, bits, len(name)) + self._long(self.block, block) + struct.pack("<H", 0) + name
        return tagged(257, DIRECTORY, body + bytes(-(16 + len(body)) % 4), self.version)

    def _long(self, length: int, block: int) -> bytes:
        return struct.pack("<IIH6x", length, block, self.reference)

    # --- partitions ---------------------------------------------------------------------------------------------

    def _write_metadata_files(self) -> None:
        if self.form.partition != "metadata":
            return
        runs = struct.pack("<IIII", 4 * self.block, 32, (self.highest + 4) * self.block, 100)
        damaged = b"\xff" * 64  # only the mirror is left
        self.put(8, damaged if self.form.deleted_entry else _file_entry(self.form, 8, 250, 0, 0, runs), 0)
        self.put(9, _file_entry(self.form, 9, 251, 0, 0, runs), 0)

    def _write_virtual_table(self) -> None:
        if self.form.partition != "virtual":
            return
        entries = b"".join(struct.pack("<I", self.table.get(n, 0xFFFFFFFF)) for n in range(max(self.table) + 1))
        revisions = [self.form.revision] * 3
        if self.form.revision >= 0x200:
            data = (
                struct.pack("<HH128sIIIHHHH", 152, 0, _dstring("vol", 128), 0xFFFFFFFF, 1, 1, *revisions, 0) + entries
            )
            kind = 248
        else:
            data, kind = entries + _entity(b"*UDF Virtual Alloc Tbl") + struct.pack("<I", 0xFFFFFFFF), 0
        last = self.count - 1 - PARTITION_START
        start = last - 32
        self.put(start, data, 0)
        self.put(last, _file_entry(self.form, last, kind, len(data), 0, struct.pack("<II", len(data), start)), 0)

    def _write_sparing_tables(self) -> None:
        pairs = struct.pack("<II", 0, SPARE_PACKET)
        body = _entity(b"*UDF Sparing Table", struct.pack("<H", self.form.revision))
        body += struct.pack("<HHI", 1, 0, 1) + pairs
        self.sectors[SPARING_TABLES[0]] = b"no table"
        self.sectors[SPARING_TABLES[1]] = tagged(0, SPARING_TABLES[1], body, self.version)

    # --- volume -------------------------------------------------------------------------------------------------

    def _write_recognition(self) -> None:
        mark = b"NSR03" if self.form.revision >= 0x200 else b"NSR02"
        for index, name in enumerate((b"BEA01", mark, b"TEA01")):
            self.sectors[(32768 + 2048 * index) // self.block] = b"\0" + name + b"\x01"

    def _write_sequences(self) -> None:
        for start in (MAIN_SEQUENCE, RESERVE_SEQUENCE):
            for index, (kind, body) in enumerate(self._sequence()):
                data = tagged(kind, start + index, body, self.version)
                if start == MAIN_SEQUENCE and self.form.damaged_main_sequence:
                    data = data[:200] + b"\xff" + data[201:]
                self.sectors[start + index] = data
        length = 16 * self.block
        body = struct.pack("<IIII", length, MAIN_SEQUENCE, length, RESERVE_SEQUENCE).ljust(496, b"\0")
        anchors = [256] if self.form.partition == "virtual" else [256, self.count - 1]
        for place in anchors:
            self.sectors[place] = tagged(2, place, body, self.version)
        integrity = _TIME + struct.pack("<III", 1, 0, 0) + struct.pack("<Q24x", 64) + struct.pack("<II", 1, 46)
        integrity += struct.pack("<II", 0, self.count - PARTITION_START) + _entity(b"*tests")
        integrity += struct.pack("<IIHHH", 1, 1, min(self.form.revision, 0x250), self.form.revision, self.form.revision)
        self.sectors[INTEGRITY] = tagged(9, INTEGRITY, integrity, self.version)

    def _sequence(self) -> list[tuple[int, bytes]]:
        count, maps = _partition_maps(self.form)
        primary = struct.pack("<II", 1, 0) + _dstring("vol", 32) + struct.pack("<HHHHII", 1, 1, 2, 2, 1, 1)
        primary += _dstring("0123456789abcdefset", 128) + 2 * _CHARSET + bytes(16) + _entity(b"*tests") + _TIME
        primary += _entity(b"*tests") + bytes(64 + 4 + 2)
        volume = struct.pack("<I", 3) + _CHARSET + _dstring("vol", 128) + struct.pack("<I", self.block) + self.domain
        volume += (
            self._long(self.block, FILE_SET) + struct.pack("<II", len(maps), count) + _entity(b"*tests") + bytes(128)
        )
        volume += struct.pack("<II", self.block, INTEGRITY) + maps
        mark = b"+NSR03" if self.form.revision >= 0x200 else b"+NSR02"
        partition = struct.pack("<IHH", 2, 1, 0) + _entity(mark) + bytes(128)
        partition += (
            struct.pack("<III", 1, PARTITION_START, self.count - PARTITION_START) + _entity(b"*tests") + bytes(128)
        )
        sequence = [(1, primary.ljust(496, b"\0")), (6, volume), (5, partition.ljust(496, b"\0"))]
        if self.form.fault == "sequence-loop":
            sequence = [(3, struct.pack("<III", 1, 16 * self.block, MAIN_SEQUENCE).ljust(496, b"\0"))]
        return [*sequence, (7, struct.pack("<II", 4, 0)), (8, bytes(496))]
