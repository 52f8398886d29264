# SPDX-License-Identifier: Apache-2.0
"""Owns the comparison of the account database before and after a tool ran, line by line.

Runs in committers. It reads only, and what it says about a difference names files and lines, never a hash.
"""

from collections.abc import Mapping
from pathlib import Path

from ipc.errors import CommitError
from workers.committers import atomic_file

PASSWD, SHADOW, GROUP, GSHADOW = "/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"
SUBUID, SUBGID = "/etc/subuid", "/etc/subgid"
FILES = (PASSWD, SHADOW, GROUP, GSHADOW, SUBUID, SUBGID)

Snapshot = Mapping[str, tuple[str, ...]]


def read(root: Path) -> Snapshot:
    """The lines of every file of the account database; none for a file that this system does not have."""
    found = {path: atomic_file.look(root / path.lstrip("/")) for path in FILES}
    # Latin-1: whatever bytes stand in a line, equal text means equal bytes.
    return {path: tuple(file.content.decode("latin-1").splitlines()) if file else () for path, file in found.items()}


def entry(snapshot: Snapshot, path: str, name: str) -> list[str] | None:
    """The fields of the line of `name` in the file `path`."""
    start = f"{name}:"
    line = next((line for line in snapshot[path] if line.startswith(start)), None)
    return None if line is None else line.split(":")


def changed_files(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """The files whose lines differ."""
    return tuple(path for path in FILES if before[path] != after[path])


def added_lines(before: Snapshot, after: Snapshot, name: str) -> dict[str, list[str]]:
    """The fields of the one new line of `name` in each file that got one.

    CommitError when any other line was added, changed, moved or removed."""
    added: dict[str, list[str]] = {}
    for path in changed_files(before, after):
        start = f"{name}:"
        new = [line for line in after[path] if line.startswith(start)]
        rest = tuple(line for line in after[path] if not line.startswith(start))
        if len(new) != 1 or rest != before[path]:
            raise CommitError(f"{path} changed otherwise than by one new line for {name}", changed=True)
        added[path] = new[0].split(":")
    return added


def replaced_field(before: Snapshot, after: Snapshot, path: str, name: str, allowed: frozenset[int]) -> None:
    """CommitError unless all that changed is, in file `path`, the fields numbered `allowed` of the line of `name`."""
    for changed in changed_files(before, after):
        pairs = list(zip(before[changed], after[changed], strict=False))
        different = [(old.split(":"), new.split(":")) for old, new in pairs if old != new]
        if changed != path or len(before[changed]) != len(after[changed]) or len(different) != 1:
            raise CommitError(f"{changed} changed otherwise than in the line of {name}", changed=True)
        old, new = different[0]
        kept = [number for number in range(len(old)) if number not in allowed]
        if old[0] != name or len(old) != len(new) or any(old[number] != new[number] for number in kept):
            raise CommitError(f"{changed} changed in more of the line of {name} than it was to", changed=True)
