# SPDX-License-Identifier: Apache-2.0
"""Owns the two files that say how far this VM is (provisioning.md 2): `provisioned` with its id, and `disable_agent`.

Runs in the supervisor; they lie in the folder that outsiders know. It decides from them, and acts on nothing else.
"""

import os
from enum import Enum

from supervisor.files import read_text, write_whole
from supervisor.records import State
from supervisor.vm_identity import VmId, same_vm

PROVISIONED, DISABLE = "provisioned", "disable_agent"
PRIVATE = 0o600


class Mark(Enum):
    """What the marker and the journal say together of this VM."""

    NEW = "to be provisioned"
    DONE = "provisioned"
    ADOPTED = "provisioned, by a marker without an id"
    MOVED = "the disk of a VM with another id"


def look(marker: str | None, vm_id: VmId, state: State) -> Mark:
    """`marker` is the file's text, None when there is none; `state` the journal's. Pure."""
    # Killed before the marker was written, or written anew; once the host has accepted Ready, it was there.
    unmarked = state.finished == vm_id.name and not state.ready
    if marker is None:
        # Ready was accepted and the marker is gone: somebody removed it, so that the VM is provisioned anew.
        return Mark.DONE if unmarked else Mark.NEW
    if not marker.strip():
        return Mark.ADOPTED
    if not vm_id.is_known or unmarked or same_vm(marker, vm_id.value):
        return Mark.DONE
    return Mark.MOVED


class Marker:
    """The files in the folder `lib`."""

    def __init__(self, lib: str, vm_id: VmId) -> None:
        self.disable_path = f"{lib}/{DISABLE}"
        self._path = f"{lib}/{PROVISIONED}"
        self._vm_id = vm_id

    @property
    def agent_is_off(self) -> bool:
        """Whether the agent has nothing to do once the VM is provisioned."""
        return os.path.lexists(self.disable_path)

    def read(self) -> str | None:
        """Its text; None when there is none. One that can't be read is there all the same, and names no VM."""
        text = read_text(self._path)
        return "" if text is None and os.path.lexists(self._path) else text

    def write(self) -> None:
        """From here on the VM is provisioned, for whoever looks. A VM that shows no id keeps the one that is there."""
        stored = self.read()
        if stored != self._vm_id.in_marker and (self._vm_id.is_known or not (stored or "").strip()):
            write_whole(self._path, self._vm_id.in_marker.encode(), PRIVATE)

    def disable_agent(self) -> None:
        """What ProvisionGuestAgent=false asks for."""
        write_whole(self.disable_path, b"", PRIVATE)
