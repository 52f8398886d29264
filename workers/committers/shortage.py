# SPDX-License-Identifier: Apache-2.0
"""Owns the hint that a disk is nearly full, for the text of a failure: tools that meet one speak of locks and opening.

Runs in committers. It looks only.
"""

import os
from pathlib import Path

# What account tools copy and prepare below these takes less.
FOLDERS = ("/etc", "/home", "/var")
FEW_BYTES = 256 * 1024
FEW_INODES = 32


def shortage(root: Path) -> str:
    """Half a sentence about each file system that has little room left, empty when there is enough everywhere."""
    short: dict[int, str] = {}
    for folder in FOLDERS:
        path = root / folder.lstrip("/")
        try:
            device, room = path.stat().st_dev, os.statvfs(path)
        except OSError:
            continue  # not there: then nothing can be said of it
        free_bytes = room.f_bavail * room.f_frsize
        # Some file systems don't count inodes: they show none at all.
        few_inodes = room.f_files > 0 and room.f_favail < FEW_INODES
        if (free_bytes < FEW_BYTES or few_inodes) and not room.f_flag & os.ST_RDONLY:
            left = f"{room.f_favail} inodes" if few_inodes else f"{free_bytes // 1024} KiB"
            short.setdefault(device, f"; the file system of {folder} has {left} left")
    return "".join(short.values())
