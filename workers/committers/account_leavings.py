# SPDX-License-Identifier: Apache-2.0
"""Owns what the account tools leave in /etc when they are killed: lock files, and new content not yet in its place.

Runs in committers, as root, before any tool does. It removes nothing of a tool that lives: whoever works on the account
files holds the lock that is taken here, and a file whose maker lives stays even so.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from workers.committers.account_lock import LOCK_FILE, PATIENCE_S, account_lock
from workers.committers.lock_files import FILES

# passwd.lock names its maker inside; passwd.123, which becomes the former by a link, in its name; passwd+ nowhere.
LEAVING = re.compile(rf"(?P<file>{'|'.join(FILES)})(?P<end>\.lock|\.[0-9]+|\+)")
# File systems and boot times are not more exact.
CLOCKS_DIFFER_S = 2.0


def clear_leavings(root: Path) -> None:
    """Remove what killed tools left below `root`. CommitError while another program has the account files locked."""
    if not any(_leavings(root)):
        return
    with account_lock(root / LOCK_FILE.lstrip("/"), PATIENCE_S):
        for path in [path for path, lock in _leavings(root) if not _maker_lives(lock)]:
            path.unlink(missing_ok=True)


def _leavings(root: Path) -> Iterator[tuple[Path, Path]]:
    """Each, with the file that names its maker."""
    for path in sorted((root / "etc").iterdir()):
        found = LEAVING.fullmatch(path.name)
        if found is not None:
            yield path, path.with_name(f"{found['file']}.lock") if found["end"] == "+" else path


def _maker_lives(path: Path) -> bool:
    """Whether the process that `path` names made it. One that began after that only has the number of its maker."""
    try:
        made = path.stat().st_mtime
        pid = path.suffix[1:] if path.suffix != ".lock" else _text(path).strip("\0 \n")
        if not (pid.isascii() and pid.isdigit()):
            return False
        facts = _text(Path("/proc", pid, "stat")).rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    booted = next(int(line.split()[1]) for line in _text(Path("/proc/stat")).splitlines() if line.startswith("btime"))
    began = booted + int(facts[19]) / os.sysconf("SC_CLK_TCK")
    return facts[0] not in {"Z", "X"} and began <= made + CLOCKS_DIFFER_S


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(1 << 16).decode("latin-1")
