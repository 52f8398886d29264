# SPDX-License-Identifier: Apache-2.0
"""Owns what happens to a provisioned disk that is found in a VM with another id (provisioning.md 10.3).

Runs in the supervisor: what is its own it removes itself, a committer removes the rest. Users, keys, certificates stay.
"""

import re
from collections.abc import Callable

from ipc import removal
from ipc.errors import StateError
from ipc.messages import ClearFormerVm
from supervisor.steps import Steps

# What belongs to the former VM among the files of the folder that outsiders know, and that folder's script of step 10.
OF_THE_VM = (
    "HostingEnvironmentConfig.xml", "Incarnation", "partition", "Protocol", "SharedConfig.xml", "WireServerEndpoint",
    "published_hostname", "fast_track.json", "initial_goal_state", "waagent_rsm_update", "waagent_initial_update",
    "Extensions.*.xml", "ExtensionsConfig.*.xml", "GoalState.*.xml", "waagent-network-setup.py",
)  # fmt: skip
# A handler's folder is called NAME-VERSION.
HANDLER = re.compile(r".+-[0-9]+(\.[0-9]+)*")
# What belongs to it in each of those.
OF_A_HANDLER = {"/status": ("*.status",), "/config": ("*.settings", "HandlerStatus"), "": ("mrseq",)}
STEP = "traces of the former VM"


class ChangedVm:
    """The clean-up; begun again after a kill it removes what is left, and a second time nothing."""

    def __init__(self, steps: Steps, lib: str, say: Callable[[str, str, str], None]) -> None:
        self._steps = steps
        self._lib = lib
        self._say = say

    async def clear(self, name: str) -> None:
        """Remove what the former VM left; `name` is this one's. StateError, CommitError: what can't be removed."""
        removed = forget_former(self._lib)
        if removed:
            self._say("info", "provisioning", f"{STEP}: {len(removed)} files removed below {self._lib}")
        await self._steps.take(STEP, "former-vm", ClearFormerVm(name))


def forget_former(lib: str) -> list[str]:
    """Remove the former VM's files below `lib` and return their paths. StateError names the one that can't be."""
    try:
        removed = list(removal.remove_matching(lib, OF_THE_VM))
        for handler in filter(HANDLER.fullmatch, removal.folders(lib)):
            for below, patterns in OF_A_HANDLER.items():
                removed += removal.remove_matching(f"{lib}/{handler}{below}", patterns)
    except OSError as error:
        raise StateError(f"{error.filename}, of the VM that this disk was in before, stays: {error.strerror}") from None
    return removed
