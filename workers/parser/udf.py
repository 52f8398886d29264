# SPDX-License-Identifier: Apache-2.0
"""Owns reading a named file from a UDF image, pure or bridge, revisions 1.02 to 2.60 (ECMA-167, OSTA UDF).

Runs in the parser; needs no mount and no kernel module, and never reads more than the `Blocks` it gets allow.
"""

import codecs
import struct
from typing import NamedTuple

from ipc.errors import InputError
from workers.parser import udf_tags as tags
from workers.parser.blocks import Blocks
from workers.parser.udf_files import DIRECTORY, PLAIN_FILE, Inode, content, extents, read_inode
from workers.parser.udf_volume import Derived, Partition, Volume, open_volume

MAX_DIRECTORY_BYTES = 1024 * 1024
MAX_TABLE_BYTES = 1024 * 1024
VIRTUAL_TABLE_SEARCH_BLOCKS = 160  # lead-out and padding that a recorder may leave behind the table

_DIRECTORY_BIT, _DELETED_BIT, _PARENT_BIT = 2, 4, 8
_VIRTUAL_TABLE, _METADATA_FILES = 248, (250, 251)
_UNUSED_BLOCK = 0xFFFFFFFF


class Virtual(NamedTuple):
    """UDF 2.2.8: each block's place stands in a table, the last thing that was written to the medium."""

    base: Partition
    table: bytes

    def absolute(self, block: int) -> int:
        if 4 * block + 4 > len(self.table):
            raise InputError("virtual partition", f"block {block} is not in its table")
        place = struct.unpack_from("<I", self.table, 4 * block)[0]
        if place == _UNUSED_BLOCK:
            raise InputError("virtual partition", f"block {block} is not in use")
        return self.base.absolute(place)


class Metadata(NamedTuple):
    """UDF 2.2.10: the blocks of a file; `runs` are its extents: first block, count, partition if recorded."""

    runs: tuple[tuple[int, int, Partition | None], ...]

    def absolute(self, block: int) -> int:
        left = block
        for start, count, partition in self.runs:
            if left < count and partition is not None:
                return partition.absolute(start + left)
            if left < count:
                break
            left -= count
        raise InputError("metadata partition", f"block {block} is not recorded")


def read_file(blocks: Blocks, path: tuple[str, ...], limit_bytes: int) -> bytes:
    """The plain file at `path`, a name a folder; names are compared without regard to case, an exact match wins.

    Raises InputError that names the structure, when the medium is no UDF or is damaged on the way to that file.
    """
    volume = open_volume(blocks)
    for index, partition in enumerate(volume.partitions):
        if isinstance(partition, Derived):
            make = _virtual if partition.kind == "virtual" else _metadata
            volume.partitions[index] = make(volume, partition)
    inode = _root(volume)
    for name in path:
        found = _look_up(volume, inode, name)
        if found is None:
            raise InputError(name, "there is no such file in the UDF file system")
        inode = read_inode(volume, volume.partition(found.partition), found.block, name)
    if inode.file_type != PLAIN_FILE:
        raise InputError(inode.what, f"is not a plain file but of UDF file type {inode.file_type}")
    return content(volume, inode, limit_bytes)


def _root(volume: Volume) -> Inode:
    what = "UDF file set descriptor"
    place = volume.file_set
    data = volume.read(volume.partition(place.partition), place.block, volume.block_bytes, what)
    tags.check_tag(data, (tags.FILE_SET,), place.block, what)
    root = tags.long_extent(data, 400)
    return read_inode(volume, volume.partition(root.partition), root.block, "UDF root directory")


def _look_up(volume: Volume, inode: Inode, name: str) -> tags.Extent | None:
    """Where the ICB of `name` is in the directory `inode`."""
    if inode.file_type != DIRECTORY:
        raise InputError(inode.what, f"is not a directory but of UDF file type {inode.file_type}")
    data = content(volume, inode, MAX_DIRECTORY_BYTES)
    found, offset = None, 0
    while offset < len(data):
        head = data[offset : offset + 38].ljust(38, b"\xff")
        bits, name_bytes, used_bytes = struct.unpack_from("<18xBB16xH", head)
        end = offset + 38 + used_bytes + name_bytes
        if end > len(data):
            raise InputError(inode.what, f"the entry at byte {offset} is cut off")
        following = end + 3 & ~3
        tags.check_tag(data[offset:following], (tags.FILE_IDENTIFIER,), None, f"{inode.what}, entry at byte {offset}")
        if not bits & (_DELETED_BIT | _PARENT_BIT):
            entry = _decode_name(data[end - name_bytes : end])
            if entry == name:
                return tags.long_extent(data, offset + 20)
            if found is None and entry.casefold() == name.casefold():
                found = tags.long_extent(data, offset + 20)
        offset = following
    return found


def _decode_name(raw: bytes) -> str:
    """OSTA compressed Unicode: the first byte tells 8 or 16 bits a character; anything else is no name of ours."""
    match raw[:1]:
        case b"\x08":
            return raw[1:].decode("latin-1")
        case b"\x10":
            return codecs.utf_16_be_decode(raw[1:], "replace", True)[0]
    return ""


def _virtual(volume: Volume, derived: Derived) -> Virtual:
    """The virtual partition, by the last table on the medium: of UDF 1.50 (mark at its end) or 2.00 (header)."""
    what = "UDF virtual allocation table"
    start = derived.base.absolute(0)
    last = volume.block_count - 1
    for place in range(last, max(last - VIRTUAL_TABLE_SEARCH_BLOCKS, start - 1), -1):
        try:
            inode = read_inode(volume, derived.base, place - start, what)
        except InputError:
            continue
        if inode.file_type not in (0, _VIRTUAL_TABLE):
            continue
        data = content(volume, inode, MAX_TABLE_BYTES)
        if inode.file_type == _VIRTUAL_TABLE and len(data) >= 2:
            return Virtual(derived.base, data[struct.unpack_from("<H", data)[0] :])
        if data[-36:].startswith(b"*UDF Virtual Alloc Tbl", 1):
            return Virtual(derived.base, data[:-36])
    raise InputError(what, f"there is none in the last {VIRTUAL_TABLE_SEARCH_BLOCKS} blocks")


def _metadata(volume: Volume, derived: Derived) -> Metadata:
    """The metadata partition, by its file or, where that is damaged, by the mirror."""
    try:
        return _metadata_file(volume, derived.base, derived.location)
    except InputError:
        return _metadata_file(volume, derived.base, derived.mirror)


def _metadata_file(volume: Volume, base: Partition, location: int) -> Metadata:
    inode = read_inode(volume, base, location, "UDF metadata file")
    if inode.file_type not in _METADATA_FILES:
        raise InputError(inode.what, f"is of UDF file type {inode.file_type}")
    runs = [
        (extent.block, extent.length // volume.block_bytes, partition if extent.kind == tags.RECORDED else None)
        for partition, extent in extents(volume, inode)
    ]
    return Metadata(tuple(runs))
