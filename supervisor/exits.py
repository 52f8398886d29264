# SPDX-License-Identifier: Apache-2.0
"""Owns the exit statuses that one process of ours understands of another (sysexits(3) where it has a number)."""

import os
import signal

# A worker's own bug; its stack is in the log.
EXIT_BUG = 70
# A step of the confinement failed: nothing of the worker ran.
EXIT_CONFINEMENT = 71
# A companion was asked for what policy gives nobody: whoever asked is in the wrong hands (workers.programs.serving).
EXIT_PROTOCOL = os.EX_PROTOCOL
# The supervisor, once a life: it has provisioned, has seen secrets doing so, and a fresh one is to go on.
EXIT_ANEW = os.EX_TEMPFAIL
# Settings or state that can't be used: starting again mends nothing, so neither spawner nor systemd tries.
EXIT_CONFIG = 78


def exit_text(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        known: dict[int, str] = {signal.SIGKILL: "was killed", signal.SIGSYS: "was killed by its system-call filter"}
        return known.get(number, f"was ended by signal {number}")
    code = os.WEXITSTATUS(status)
    return f"ended with {code}" + (", refusing a request" if code == EXIT_PROTOCOL else "")
