# SPDX-License-Identifier: Apache-2.0
"""Owns the exit statuses that one process of ours understands of another (sysexits(3) where it has a number)."""

import os
import signal

# A worker's own bug; its stack is in the log.
EXIT_BUG = 70
# A step of the confinement failed: nothing of the worker ran.
EXIT_CONFINEMENT = 71
# Settings or state that can't be used: starting again mends nothing, so neither spawner nor systemd tries.
EXIT_CONFIG = 78


def exit_text(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        known: dict[int, str] = {signal.SIGKILL: "was killed", signal.SIGSYS: "was killed by its system-call filter"}
        return known.get(number, f"was ended by signal {number}")
    return f"ended with {os.WEXITSTATUS(status)}"
