# SPDX-License-Identifier: Apache-2.0
"""Owns that only one agent runs on a machine; runs in the spawner, before it starts anything."""

import contextlib
import fcntl
import os

from ipc.errors import ConfigError
from supervisor.layout import Layout


def take_the_place(layout: Layout) -> int:
    """A descriptor that holds the place for as long as it is open; ConfigError when another agent has it."""
    os.makedirs(layout.run, mode=0o755, exist_ok=True)
    path = f"{layout.run}/lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise ConfigError(path, f"another agent is running, process {holder}") from None
    # The place is held by the lock; the number is for whoever comes second, and a full disk is no reason to go.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
