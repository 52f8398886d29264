# SPDX-License-Identifier: Apache-2.0
"""Owns reading a file from ISO9660 media (ECMA-119), by Rock Ridge's, Joliet's or plain names; runs in the parser.

Only the root folder is looked at, since Azure's document lies there; no path table, no boot catalogue, no other folder.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ipc.errors import InputError
from workers.parser.blocks import Blocks

SECTOR_BYTES = 2048
FIRST_DESCRIPTOR, MAX_DESCRIPTORS = 16, 64
MAX_DIRECTORY_BYTES = 1024 * 1024
MAX_CONTINUATIONS = 8

_PRIMARY, _SUPPLEMENTARY, _TERMINATOR = 1, 2, 255
_JOLIET_ESCAPES = (b"%/@", b"%/C", b"%/E")
_DIRECTORY_FLAG, _ASSOCIATED_FLAG, _MORE_EXTENTS_FLAG = 2, 4, 0x80
_RECORD = struct.Struct("<BBI4xI4x7xBBB4xB")  # numbers of which both byte orders are kept are taken in the first
_NAME_AT = 33


class _Record(NamedTuple):
    """An entry of a directory: where its bytes are, its identifier, and the system use area behind that."""

    offset: int
    length: int
    flags: int
    interleaved: bool
    identifier: bytes
    system_use: bytes


class _Volume(NamedTuple):
    """What a volume descriptor leads to: the entries of the root, and the size of a block."""

    block_bytes: int
    entries: tuple[_Record, ...]


def read_file(blocks: Blocks, name: str, limit_bytes: int) -> bytes:
    """The file called `name` in the root folder, in whichever of the three name spaces has it.

    Case does not count, nor does what plain ISO9660 makes of a name: `OVF_ENV.XML;1` is `ovf-env.xml`. Raises
    InputError that names the structure, when the medium is no ISO9660 or is damaged on the way to that file."""
    for found, record in _names(blocks):
        if _plain(found) == _plain(name):
            return _content(blocks, record, name, limit_bytes)
    raise InputError(name, "there is no such file in the ISO9660 file system")


def _content(blocks: Blocks, record: _Record, name: str, limit_bytes: int) -> bytes:
    if record.length > limit_bytes:
        raise InputError(f"{name}, size", f"is {record.length} bytes long, more than the {limit_bytes} allowed")
    if record.flags & _MORE_EXTENTS_FLAG or record.interleaved:
        raise InputError(name, "is interleaved or goes on in a further extent")
    return blocks.read(record.offset, record.length, name)


def _plain(name: str) -> str:
    """`name` without what the three name spaces do differently: version, final dot, case, characters not allowed."""
    return name.partition(";")[0].rstrip(".").casefold().replace("_", "-")


def _names(blocks: Blocks) -> Iterator[tuple[str, _Record]]:
    """Names and records of the root's files: Rock Ridge's, then Joliet's, then the plain ones."""
    primary, joliet = _descriptors(blocks)
    volume = _open(blocks, primary, "ISO9660 root directory")
    skip = _system_use_skip(volume)
    if skip is not None:
        for record in _files(volume):
            yield _rock_ridge_name(blocks, volume, record.system_use[skip:]), record
    if joliet is not None:
        for record in _files(_open(blocks, joliet, "Joliet root directory")):
            yield record.identifier.decode("utf-16-be", "replace"), record
    for record in _files(volume):
        yield record.identifier.decode("latin-1"), record


def _descriptors(blocks: Blocks) -> tuple[bytes, bytes | None]:
    """The primary volume descriptor, and that of Joliet if there is one."""
    primary, joliet = None, None
    for sector in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + MAX_DESCRIPTORS):
        what = f"ISO9660 volume descriptor, sector {sector}"
        data = blocks.read(sector * SECTOR_BYTES, SECTOR_BYTES, what)
        if data[1:6] != b"CD001":
            raise InputError(what, "is none")
        if data[0] == _TERMINATOR:
            break
        if data[0] == _PRIMARY and primary is None:
            primary = data
        elif data[0] == _SUPPLEMENTARY and data[88:91] in _JOLIET_ESCAPES and joliet is None:
            joliet = data
    if primary is None:
        raise InputError("ISO9660 volume descriptors", "no primary one")
    return primary, joliet


def _open(blocks: Blocks, descriptor: bytes, what: str) -> _Volume:
    block_bytes = struct.unpack_from("<H", descriptor, 128)[0]
    if block_bytes not in (512, 1024, 2048):
        raise InputError("ISO9660 volume descriptor", f"blocks of {block_bytes} bytes")
    root = _record(descriptor[156:190], block_bytes, what)
    if root.length > MAX_DIRECTORY_BYTES:
        raise InputError(what, f"is {root.length} bytes long, more than the {MAX_DIRECTORY_BYTES} allowed")
    data = blocks.read(root.offset, root.length, what)
    entries, offset = [], 0
    while offset < len(data):
        length = data[offset]
        if length == 0:  # no entry crosses into another block
            offset += block_bytes - offset % block_bytes
            continue
        entries.append(_record(data[offset : offset + length], block_bytes, f"{what}, entry at byte {offset}"))
        offset += length
    return _Volume(block_bytes, tuple(entries))


def _record(data: bytes, block_bytes: int, what: str) -> _Record:
    if len(data) <= _NAME_AT or len(data) < data[0] or _NAME_AT + data[32] > len(data):
        raise InputError(what, "is cut off")
    _, attributes, extent, length, flags, unit, gap, name_bytes = _RECORD.unpack_from(data)
    end = _NAME_AT + name_bytes
    offset = (extent + attributes) * block_bytes
    system_use = data[end + (name_bytes + 1) % 2 :]
    return _Record(offset, length, flags, bool(unit or gap), data[_NAME_AT:end], system_use)


def _files(volume: _Volume) -> Iterator[_Record]:
    return (record for record in volume.entries if not record.flags & (_DIRECTORY_FLAG | _ASSOCIATED_FLAG))


def _system_use_skip(volume: _Volume) -> int | None:
    """How many bytes stand before Rock Ridge's entries, told by the root's first entry; None without Rock Ridge."""
    first = volume.entries[0].system_use if volume.entries else b""
    return first[6] if first[:6] == b"SP\x07\x01\xbe\xef" and len(first) > 6 else None


def _rock_ridge_name(blocks: Blocks, volume: _Volume, area: bytes) -> str:
    """The name in the NM entries of a system use area and of its continuations; empty if there is none."""
    name = b""
    for _ in range(MAX_CONTINUATIONS):
        following = None
        while len(area) >= 4 and 4 <= area[2] <= len(area) and area[:2] != b"ST":
            entry, area = area[: area[2]], area[area[2] :]
            if entry[:2] == b"NM":
                name += entry[5:]
            elif entry[:2] == b"CE" and len(entry) >= 28:
                following = struct.unpack("<I4xI4xI4x", entry[4:28])
        if following is None:
            return name.decode("utf-8", "replace")
        block, offset, length = following
        what = "Rock Ridge continuation"
        if length > SECTOR_BYTES:
            raise InputError(what, f"is {length} bytes long")
        area = blocks.read(block * volume.block_bytes + offset, length, what)
    raise InputError("Rock Ridge continuation", f"more than {MAX_CONTINUATIONS} of one entry")
