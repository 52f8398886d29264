# SPDX-License-Identifier: Apache-2.0
"""Owns what all UDF structures share (ECMA-167 3/7 and 4/7): descriptor tags and allocation descriptors; no I/O."""

import binascii
import struct
from typing import NamedTuple

from ipc.errors import InputError

ANCHOR = 2
VOLUME_POINTER = 3
PARTITION = 5
LOGICAL_VOLUME = 6
TERMINATOR = 8
FILE_SET = 256
FILE_IDENTIFIER = 257
EXTENT_CONTINUATION = 258
INDIRECT_ENTRY = 259
FILE_ENTRY = 261
EXTENDED_FILE_ENTRY = 266

TAG_BYTES = 16
_TAG = struct.Struct("<HHBx2xHHI")
_SHORT = struct.Struct("<II")
_LONG = struct.Struct("<IIH")


class Extent(NamedTuple):
    """A run of bytes that starts with a block; `partition` is a reference number, None for that of the ICB."""

    length: int
    kind: int
    block: int
    partition: int | None


RECORDED = 0
CONTINUED = 3


def check_tag(data: bytes, kinds: tuple[int, ...], location: int | None, what: str) -> int:
    """The kind of the descriptor in `data`, once its tag, checksum, CRC and (unless None) location are right."""
    if len(data) < TAG_BYTES:
        raise InputError(what, "is cut off")
    kind, version, checksum, crc, crc_length, place = _TAG.unpack_from(data)
    if (sum(data[:4]) + sum(data[5:TAG_BYTES])) & 0xFF != checksum:
        raise InputError(what, "the checksum of its tag is wrong")
    if kind not in kinds or version not in (2, 3):
        raise InputError(what, f"has a tag of kind {kind}, version {version}")
    if location is not None and place != location:
        raise InputError(what, f"its tag belongs to block {place}, not {location}")
    if TAG_BYTES + crc_length > len(data):
        raise InputError(what, f"its CRC claims {crc_length} bytes")
    if binascii.crc_hqx(data[TAG_BYTES : TAG_BYTES + crc_length], 0) != crc:
        raise InputError(what, "its CRC is wrong")
    return int(kind)


def short_extent(data: bytes, offset: int) -> Extent:
    """The short_ad at `offset`: 8 bytes, in the partition of its ICB."""
    length, block = _SHORT.unpack_from(data, offset)
    return Extent(length & 0x3FFFFFFF, length >> 30, block, None)


def long_extent(data: bytes, offset: int) -> Extent:
    """The long_ad at `offset`: 16 bytes."""
    length, block, partition = _LONG.unpack_from(data, offset)
    return Extent(length & 0x3FFFFFFF, length >> 30, block, partition)


def extended_extent(data: bytes, offset: int) -> Extent:
    """The ext_ad at `offset`: 20 bytes; refused when it holds compressed data (recorded and real length differ)."""
    length, recorded, real, block, partition = struct.unpack_from("<IIIIH", data, offset)
    if recorded & 0x3FFFFFFF != real:
        raise InputError("extended allocation descriptor", "its data is not stored as it is")
    return Extent(length & 0x3FFFFFFF, length >> 30, block, partition)
