# SPDX-License-Identifier: Apache-2.0
"""Owns the question who holds a lock file of the account database; runs in committers; it looks only.

The tools ask the kernel whether the process that such a file names is alive. In a committer, whose Landlock domain may
signal nobody outside it, the answer is no, and they would take the lock away from whoever has it.
"""

from pathlib import Path

FILES = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
LONGEST = 32


def holder(root: Path) -> str:
    """Which lock file below `root` is held by a process that lives, and by which; empty when none is."""
    for name in FILES:
        path = f"/etc/{name}.lock"
        try:
            with (root / path.lstrip("/")).open("rb") as file:
                pid = file.read(LONGEST).strip(b"\0 \n")
            if pid.isdigit():
                command = Path("/proc", pid.decode(), "comm").read_bytes().decode("ascii", "replace").strip()
                return f"{path} is held by process {int(pid)} ({command})"
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ""
