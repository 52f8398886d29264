# SPDX-License-Identifier: Apache-2.0
"""Owns the answer to "may confinement be weakened here?": only in throw-away namespaces over an overlay.

Runs in `prove`; it reads links in /proc and the type of the root's file system, and changes nothing.
"""

import os

from supervisor.jail.control_files import read

# The kernel's own numbers of the first namespaces, the same on every machine.
FIRST = {"uts": 0xEFFFFFFE, "ipc": 0xEFFFFFFF, "pid": 0xEFFFFFFC, "cgroup": 0xEFFFFFFB}


def why_not(proc: str = "/proc") -> str:
    """Why nothing may be weakened here; empty if it may. `proc` is where the kernel's view lies (tests)."""
    for name, number in FIRST.items():
        try:
            there = os.readlink(f"{proc}/self/ns/{name}")
        except OSError as error:
            return f"its {name} namespace can't be told: {error.strerror}"
        if there == f"{name}:[{number}]":
            return f"this is the machine's own {name} namespace"
    kinds = [line.partition(" - ")[2].split() for line in read(f"{proc}/self/mountinfo").splitlines() if _is_root(line)]
    if not kinds or kinds[-1][0] != "overlay":
        return "the root file system is no overlay"
    return ""


def _is_root(line: str) -> bool:
    return line.split()[4] == "/"
