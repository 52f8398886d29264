# SPDX-License-Identifier: Apache-2.0
"""Owns reading a file from ISO9660 media by pycdlib: Rock Ridge, Joliet, plain names; runs in the parser.

Imported for these media only, and before confinement: pycdlib is the heaviest thing that a parser loads. It sees a
bounded file object, never the descriptor, and whatever it raises on hostile input becomes an InputError.
"""

import codecs
import os
import struct
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, cast

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from ipc.errors import InputError
from workers.parser.blocks import Blocks

# Python loads codecs and the reader of dates from disk at their first use; a confined worker can open nothing any more.
for _name in ("ascii", "latin-1", "utf-16_be", "utf-16_le"):
    codecs.lookup(_name)
time.strptime("1970", "%Y")

_BROKEN = (
    PyCdlibException,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
_MORE_EXTENTS_FLAG = 0x80


class _Entry(NamedTuple):
    """A file of the root folder: where its bytes are."""

    offset: int
    length: int
    more_extents: bool


def read_file(blocks: Blocks, name: str, limit_bytes: int) -> bytes:
    """The file called `name` in the root folder, in whichever of the three name spaces has it.

    Case does not count, nor does what plain ISO9660 makes of a name: `OVF_ENV.XML;1` is `ovf-env.xml`."""
    what = "ISO9660 file system"
    try:
        entry = _find(_BlockFile(blocks), _plain(name))
    except _BROKEN as error:
        raise InputError(what, f"is damaged or none at all ({type(error).__name__})") from None
    if entry is None:
        raise InputError(name, f"there is no such file in the {what}")
    if entry.length > limit_bytes:
        raise InputError(name, f"is {entry.length} bytes long, more than the {limit_bytes} allowed")
    if entry.more_extents:
        raise InputError(name, "goes on in a further extent")
    return blocks.read(entry.offset, entry.length, name)


def _find(image: "_BlockFile", plain_name: str) -> _Entry | None:
    iso = pycdlib.PyCdlib()
    iso.open_fp(cast("BinaryIO", image))
    for name, record in _entries(iso):
        if _plain(name) == plain_name:
            offset = record.extent_location() * iso.logical_block_size
            return _Entry(offset, record.get_data_length(), bool(record.file_flags & _MORE_EXTENTS_FLAG))
    return None


def _entries(iso: pycdlib.PyCdlib) -> Iterator[tuple[str, pycdlib.dr.DirectoryRecord]]:
    """Names and records of the root folder: Rock Ridge, then Joliet, then plain ISO9660."""
    views: list[tuple[bool, str, Callable[[pycdlib.dr.DirectoryRecord], str]]] = [
        (iso.has_rock_ridge(), "rr_path", _rock_ridge_name),
        (iso.has_joliet(), "joliet_path", lambda record: record.file_identifier().decode("utf-16-be", "replace")),
        (True, "iso_path", lambda record: record.file_identifier().decode("latin-1")),
    ]
    for keyword, name_of in ((keyword, name_of) for present, keyword, name_of in views if present):
        for record in iso.list_children(**{keyword: "/"}):
            if record is not None and record.is_file():
                yield name_of(record), record


def _rock_ridge_name(record: pycdlib.dr.DirectoryRecord) -> str:
    return "" if record.rock_ridge is None else record.rock_ridge.name().decode("utf-8", "replace")


def _plain(name: str) -> str:
    """`name` without what the three name spaces do differently: version, final dot, case, characters not allowed."""
    return name.partition(";")[0].rstrip(".").casefold().replace("_", "-")


class _BlockFile:
    """The medium as the file object that pycdlib wants; reading on past the end gives less, as a file does."""

    mode = "rb"

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._position = 0

    def read(self, length: int = -1) -> bytes:
        left = max(self._blocks.size_bytes - self._position, 0)
        take = left if length < 0 else min(length, left)
        data = self._blocks.read(self._position, take, "ISO9660 file system") if take else b""
        self._position += take
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._blocks.size_bytes}[whence]
        if start + offset < 0:
            raise InputError("ISO9660 file system", "points before the start of the medium")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        """The descriptor belongs to whoever opened it."""
