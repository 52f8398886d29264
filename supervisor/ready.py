# SPDX-License-Identifier: Apache-2.0
"""Owns telling the host that the VM is ready (wire-protocol.md 9): until it has accepted that, and it is written down.

Runs in the supervisor, after provisioning; nothing that happens here makes a provisioned VM unprovisioned.
"""

from collections.abc import Callable

from ipc.errors import AgentError
from supervisor.contact import Contact
from supervisor.journal import Journal
from supervisor.loop import Loop
from supervisor.records import ReadyAccepted

# After the patience of the report itself (two hours for a host that is busy), or at once after a refusal.
AGAIN_S = 60.0


class Ready:
    """The one report of Ready."""

    def __init__(
        self,
        loop: Loop,
        contact: Contact,
        journal: Journal,
        say: Callable[[str, str, str], None],
        tell: Callable[[str], None],
    ) -> None:
        """`say` is for the log; `tell` gets where it stands, for `ps`."""
        self._loop = loop
        self._contact = contact
        self._journal = journal
        self._say = say
        self._tell = tell

    async def report(self) -> None:
        """Tell the host. One that does not accept it is told again and again, beside everything else."""
        self._tell("reports Ready")
        if not await self._once():
            self._loop.start("Ready", self._insist(), detached=True)

    async def _insist(self) -> None:
        while True:
            await self._loop.sleep(AGAIN_S)
            if await self._once():
                return

    async def _once(self) -> bool:
        """Whether the host has accepted it, and the journal has that."""
        try:
            await self._contact.report("Ready")
            self._say("info", "host", "accepted Ready")
            self._journal.append(ReadyAccepted())
        except AgentError as error:
            self._say("error", "host", f"provisioned, but Ready is not reported or not noted: {error}")
            self._tell(f"done, but {error}; Ready is reported again in {AGAIN_S:g} s")
            return False
        self._tell("done")
        return True
