# SPDX-License-Identifier: Apache-2.0
"""Owns how the firewall's commands start programs of the machine's: nft, iptables, systemctl and their like.

Runs in the process of `agent-supervisor firewall`. Argument lists, a fixed path, no shell, an end to waiting.
"""

import shutil
import subprocess
from collections.abc import Sequence

import msgspec

SEARCHED = "/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE_S = 15.0


class Done(msgspec.Struct, frozen=True):
    """How a program ended, and what it printed."""

    status: int
    out: str
    complaint: str

    @property
    def well(self) -> bool:
        return self.status == 0


class Programs:
    """Runs programs; `before` is put before each (a command that enters another network, say)."""

    def __init__(self, before: Sequence[str] = ()) -> None:
        self._before = list(before)

    def has(self, name: str) -> bool:
        """Whether this machine has it."""
        return shutil.which(name, path=SEARCHED) is not None

    def run(self, name: str, arguments: Sequence[str], given: str = "") -> Done:
        """Run it to its end with `given` on its input. One that is not there, or never ends, has failed."""
        path = shutil.which(name, path=SEARCHED)
        if path is None:
            return Done(127, "", f"{name} is not installed")
        try:
            done = subprocess.run(
                [*self._before, path, *arguments], input=given, capture_output=True, text=True, errors="replace",
                check=False, timeout=PATIENCE_S, env={"PATH": SEARCHED, "LC_ALL": "C"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Done(124, "", f"{name} did not end within {PATIENCE_S:g} s, and was killed")
        return Done(done.returncode, done.stdout, _brief(done.stderr))


def _brief(complaint: str) -> str:
    """Its first line with something in it, without where in our own text it points to."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    return lines[0].removeprefix("/dev/stdin:")[:300] if lines else ""
