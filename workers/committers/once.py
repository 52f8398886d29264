# SPDX-License-Identifier: Apache-2.0
"""Owns the record of a run that must not happen twice: how far it has come, and in which boot of the machine.

Runs in the committers of custom data, on a descriptor that the supervisor hands over. A record that makes no sense
counts as that of a run that was under way.
"""

import os
from pathlib import Path
from typing import Literal

from ipc.errors import CommitError

# begun: about to be handed to whoever starts it. started: it was started, or is in the next moment.
Stage = Literal["", "begun", "started", "in another boot"]
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LONGEST = 128


class Once:
    """The record behind `descriptor`, which stays open and the caller's."""

    def __init__(self, descriptor: int, boot_id: str) -> None:
        self._descriptor = descriptor
        self._boot_id = boot_id

    @property
    def stage(self) -> Stage:
        """How far it has come; empty for not at all."""
        text = os.pread(self._descriptor, LONGEST, 0).decode("ascii", "replace")
        if not text:
            return ""
        word, _, boot_id = text.strip().partition(" ")
        if boot_id.strip() != self._boot_id:
            return "in another boot"
        return "begun" if word == "begun" else "started"

    def note(self, word: Literal["begun", "started"]) -> None:
        """On disk before this returns. One write of one length: no other stage shows in between."""
        os.pwrite(self._descriptor, f"{word:<7} {self._boot_id}\n".encode(), 0)
        os.fsync(self._descriptor)


def from_order(descriptors: tuple[int, ...], boot_id: Path = BOOT_ID) -> Once:
    """The record that came with an order; CommitError when none did."""
    if len(descriptors) != 1:
        raise CommitError(f"{len(descriptors)} descriptors came where the record of the run was due")
    # A sysctl refuses to be read by a large buffer; bytes, because text may want a codec from disk.
    return Once(descriptors[0], boot_id.read_bytes().decode().strip())
