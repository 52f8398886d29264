# SPDX-License-Identifier: Apache-2.0
"""Owns the tie of a child's life to the spawner's; runs in the child, after its last change of credentials."""

import os
import select

from ipc.errors import ConfinementError
from supervisor.jail import capabilities


def die_with(spawner: int) -> None:
    """SIGKILL for this process when the spawner, whose pidfd `spawner` is, ends; also if it ended a moment ago.

    A getppid that has changed would tell the same, but in a pid namespace of one's own it is always 0."""
    capabilities.die_with_parent()
    poller = select.poll()
    poller.register(spawner, select.POLLIN)
    if poller.poll(0):
        raise ConfinementError("parent-death signal", "the spawner is gone")
    os.close(spawner)
