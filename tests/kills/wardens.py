# SPDX-License-Identifier: Apache-2.0
"""Owns finding the wardens of handlers' commands, which are systemd's children, and what runs below each.

Runs in the test, outside the lab, whose numbers of processes are others.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.fabric.lab import Lab
from tests.fabric.scene import children_of

WARDEN = "supervisor.jail.handler_warden"


def wardens(lab: Lab) -> Iterator[tuple[int, dict[int, int]]]:
    """Every warden that lives, and the processes below it: by their numbers in the lab, as the host numbers them."""
    for pid in children_of(lab.init_pid):
        if WARDEN in _words(pid):
            yield pid, _below(pid)


def _words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


def _below(pid: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for child in children_of(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{child}/status").read_text().splitlines()
            found |= {int(line.split()[-1]): child for line in lines if line.startswith("NSpid:")}
        found |= _below(child)
    return found
