# SPDX-License-Identifier: Apache-2.0
"""Owns the answer to "what was changed": reads an overlay's upper layer against what lies below it. Changes nothing."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OPAQUE = "trusted.overlay.opaque"


@dataclass(frozen=True, order=True)
class Change:
    """One path that differs from what it was. `mode` as in st_mode (0 when deleted); `uid`, `gid` of the owner now."""

    path: str
    kind: Literal["added", "modified", "deleted"]
    mode: int
    uid: int
    gid: int

    @property
    def permissions(self) -> int:
        """The mode's low twelve bits."""
        return stat.S_IMODE(self.mode)


def changes(upper: Path, lowers: tuple[Path, ...]) -> list[Change]:
    """What `upper` changes over `lowers` (topmost first), by path. A file merely touched is no change."""
    return sorted(_below(upper, upper, lowers))


def _below(folder: Path, upper: Path, lowers: tuple[Path, ...]) -> Iterator[Change]:
    for path in folder.iterdir():
        relative = path.relative_to(upper)
        facts = path.lstat()
        before = _first(lowers, relative)
        if stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0:
            if before is not None:
                yield Change(f"/{relative}", "deleted", 0, 0, 0)
            continue
        if before is None:
            yield Change(f"/{relative}", "added", facts.st_mode, facts.st_uid, facts.st_gid)
        elif _differs(path, facts, before):
            yield Change(f"/{relative}", "modified", facts.st_mode, facts.st_uid, facts.st_gid)
        if stat.S_ISDIR(facts.st_mode):
            yield from _hidden(path, before, relative)
            yield from _below(path, upper, lowers)


def _first(lowers: tuple[Path, ...], relative: Path) -> Path | None:
    return next((lower / relative for lower in lowers if os.path.lexists(lower / relative)), None)


def _differs(path: Path, now: os.stat_result, before: Path) -> bool:
    then = before.lstat()
    if (now.st_mode, now.st_uid, now.st_gid) != (then.st_mode, then.st_uid, then.st_gid):
        return True
    if stat.S_ISLNK(now.st_mode):
        return path.readlink() != before.readlink()
    return stat.S_ISREG(now.st_mode) and (now.st_size != then.st_size or path.read_bytes() != before.read_bytes())


def _opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, OPAQUE) == b"y"
    except OSError:
        return False


def _hidden(path: Path, before: Path | None, relative: Path) -> Iterator[Change]:
    """What a folder that was removed and made again no longer shows."""
    if before is None or not before.is_dir() or not _opaque(path):
        return
    for gone in before.iterdir():
        if not os.path.lexists(path / gone.name):
            yield Change(f"/{relative}/{gone.name}", "deleted", 0, 0, 0)
