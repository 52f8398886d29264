# SPDX-License-Identifier: Apache-2.0
"""Owns UDF files (ECMA-167 part 4): file entries and the bytes they describe; runs in the parser; knows no names."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ipc.errors import InputError
from workers.parser import udf_tags as tags
from workers.parser.udf_volume import Partition, Volume

DIRECTORY = 4
PLAIN_FILE = 5
MAX_CHAIN = 64

_FORMS = {0: (8, tags.short_extent), 1: (16, tags.long_extent), 2: (20, tags.extended_extent)}
_EMBEDDED = 3


class Inode(NamedTuple):
    """One file: its type and size, and its allocation descriptors (or content) in the `form` that its flags tell."""

    what: str
    partition: Partition
    file_type: int
    size: int
    form: int
    descriptors: bytes


def read_inode(volume: Volume, partition: Partition, block: int, what: str) -> Inode:
    """The file whose ICB is at `block`: a direct entry (strategy 4) or the last of a chain (4096, write-once)."""
    for _ in range(MAX_CHAIN):
        data = volume.read(partition, block, volume.block_bytes, what)
        kind = tags.check_tag(data, (tags.FILE_ENTRY, tags.EXTENDED_FILE_ENTRY), block, what)
        strategy = struct.unpack_from("<H", data, 20)[0]
        if strategy not in (4, 4096):
            raise InputError(what, f"ICB strategy {strategy}")
        successor = _successor(volume, partition, block + 1, what) if strategy == 4096 else None
        if successor is None:
            return _make_inode(kind, data, partition, what)
        partition, block = volume.partition(successor.partition), successor.block
    raise InputError(what, f"more than {MAX_CHAIN} versions")


def content(volume: Volume, inode: Inode, limit_bytes: int) -> bytes:
    """The whole of a file of at most `limit_bytes`; what was never recorded reads as zeros."""
    if inode.size > limit_bytes:
        raise InputError(f"{inode.what}, size", f"is {inode.size} bytes long, more than the {limit_bytes} allowed")
    if inode.form == _EMBEDDED:
        if inode.size > len(inode.descriptors):
            raise InputError(inode.what, f"{inode.size} bytes don't fit into its own entry")
        return inode.descriptors[: inode.size]
    pieces, left = [], inode.size
    for partition, extent in extents(volume, inode):
        if left == 0:
            break
        take = min(left, extent.length)
        recorded = extent.kind == tags.RECORDED
        pieces.append(volume.read(partition, extent.block, take, inode.what) if recorded else bytes(take))
        left -= take
    if left:
        raise InputError(inode.what, f"its extents end {left} bytes early")
    return b"".join(pieces)


def extents(volume: Volume, inode: Inode) -> Iterator[tuple[Partition, tags.Extent]]:
    """The extents of a file in order, through its continuations, each with the partition that it lies in."""
    if inode.form not in _FORMS:
        raise InputError(inode.what, f"allocation descriptors of form {inode.form}")
    size, decode = _FORMS[inode.form]
    table = inode.descriptors
    for _ in range(MAX_CHAIN):
        following = None
        for offset in range(0, len(table) - size + 1, size):
            extent = decode(table, offset)
            if extent.length == 0:
                return
            partition = inode.partition if extent.partition is None else volume.partition(extent.partition)
            if extent.kind == tags.CONTINUED:
                following = (partition, extent.block)
                break
            yield partition, extent
        if following is None:
            return
        table = _continuation(volume, *following, inode.what)
    raise InputError(inode.what, f"its extents continue more than {MAX_CHAIN} times")


def _continuation(volume: Volume, partition: Partition, block: int, what: str) -> bytes:
    data = volume.read(partition, block, volume.block_bytes, what)
    tags.check_tag(data, (tags.EXTENT_CONTINUATION,), block, what)
    length = struct.unpack_from("<I", data, 20)[0]
    if 24 + length > len(data):
        raise InputError(what, f"a continuation of {length} bytes")
    return data[24 : 24 + length]


def _successor(volume: Volume, partition: Partition, block: int, what: str) -> tags.Extent | None:
    """Where the newer version is, if the block after an entry has been recorded with an indirect entry."""
    try:
        data = volume.read(partition, block, volume.block_bytes, what)
        tags.check_tag(data, (tags.INDIRECT_ENTRY,), block, what)
    except InputError:
        return None
    extent = tags.long_extent(data, 36)
    return extent if extent.length else None


def _make_inode(kind: int, data: bytes, partition: Partition, what: str) -> Inode:
    file_type, flags, size = struct.unpack_from("<27xB6xH20xQ", data)
    lengths_at = 168 if kind == tags.FILE_ENTRY else 208
    attributes, length = struct.unpack_from("<II", data, lengths_at)
    start = lengths_at + 8 + attributes
    if start + length > len(data):
        raise InputError(what, f"{attributes} and {length} bytes don't fit into its entry")
    return Inode(what, partition, file_type, size, flags & 7, data[start : start + length])
