# SPDX-License-Identifier: Apache-2.0
"""Owns where a package's directory of entries is: at its very end, once, and of a bearable size.

Runs in the unpacker, before the standard library's reader: what that one is given, every reader reads the same way
(APPNOTE.TXT 4.3.16). It never looks into an entry.
"""

import os
import struct

from workers.unpacker.refusal import RefusedPackage

_END = struct.Struct("<4s4H2LH")
_SIGNATURE, _LARGER = b"PK\5\6", b"PK\6\7"
_LARGER_BYTES = 20
_MOST_COMMENT = 0xFFFF
# Of one entry in the directory, on average, name and extras included: real ones take about 100.
_BYTES_AN_ENTRY = 256


def check(package: int, most_entries: int) -> int:
    """How many entries the directory of the file `package` counts. RefusedPackage where that could be another one."""
    size = os.fstat(package).st_size
    start = max(0, size - _END.size - _MOST_COMMENT)
    tail = os.pread(package, size - start, start)
    ends = [at for at in _positions(tail) if at + _END.size + _comment_bytes(tail, at) == len(tail)]
    if not ends:
        raise RefusedPackage(f"{size} bytes that don't end as a zip file does: cut short, or none")
    # The last signature is the one that readers take who look for it from the end.
    if len(ends) > 1 or tail.rfind(_SIGNATURE) != ends[0]:
        raise RefusedPackage("it ends in two ways: what one reader finds in it another one does not")
    at = ends[0]
    _, disk, first_disk, here, count, directory_size, offset, _ = _END.unpack_from(tail, at)
    if (disk, first_disk) != (0, 0) or here != count:
        raise RefusedPackage("it is one part of several")
    if tail[max(0, at - _LARGER_BYTES) : at].startswith(_LARGER):
        raise RefusedPackage("its directory is of the 64-bit form, which no package of this size takes")
    if count > most_entries:
        raise RefusedPackage(f"it has {count} entries, and at most {most_entries} are unpacked")
    if directory_size > max(count, 1) * _BYTES_AN_ENTRY + _MOST_COMMENT:
        raise RefusedPackage(f"its directory of {count} entries takes {directory_size} bytes, far more than those need")
    if offset + directory_size != start + at:
        raise RefusedPackage("its directory is not where its end says: something stands before it, or behind it")
    return int(count)


def _positions(tail: bytes) -> list[int]:
    found, at = [], tail.find(_SIGNATURE)
    while at >= 0:
        if at + _END.size <= len(tail):
            found.append(at)
        at = tail.find(_SIGNATURE, at + 1)
    return found


def _comment_bytes(tail: bytes, at: int) -> int:
    return int.from_bytes(tail[at + _END.size - 2 : at + _END.size], "little")
