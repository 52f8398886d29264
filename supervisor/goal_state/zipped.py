# SPDX-License-Identifier: Apache-2.0
"""Owns the form of a ZIP archive of a few small files. Pure.

Python's zipfile is a reader too, and takes more memory than all goal states together; this only writes.
"""

import struct
import time
import zlib
from collections.abc import Mapping

_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_CENTRAL = struct.Struct("<4sHHHHHHLLLHHHHHLL")
_END = struct.Struct("<4sHHHHLLH")
_VERSION, _UTF8, _DEFLATED = 20, 1 << 11, 8
_MADE_ON_UNIX = 3 << 8
_FIRST_YEAR = 1980


def archive(files: Mapping[str, bytes], mode: int, wall: float) -> bytes:
    """`files`, by their names, all of `mode` and from the wall time `wall`, as one archive; sizes below 4 GiB."""
    date, clock = _dos(wall)
    body, directory = bytearray(), bytearray()
    for name, content in files.items():
        encoded = name.encode("utf-8")
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = packer.compress(content) + packer.flush()
        sizes = zlib.crc32(content), len(packed), len(content), len(encoded), 0
        common = _UTF8, _DEFLATED, clock, date, *sizes
        made = _VERSION | _MADE_ON_UNIX, _VERSION
        directory += _CENTRAL.pack(b"PK\1\2", *made, *common, 0, 0, 0, mode << 16, len(body)) + encoded
        body += _LOCAL.pack(b"PK\3\4", _VERSION, *common) + encoded + packed
    end = _END.pack(b"PK\5\6", 0, 0, len(files), len(files), len(directory), len(body), 0)
    return bytes(body + directory + end)


def _dos(wall: float) -> tuple[int, int]:
    """Date and time as DOS has counted them: from 1980 on, in steps of two seconds."""
    when = time.gmtime(wall)
    year = max(0, min(127, when.tm_year - _FIRST_YEAR))
    return year << 9 | when.tm_mon << 5 | when.tm_mday, when.tm_hour << 11 | when.tm_min << 5 | when.tm_sec // 2
