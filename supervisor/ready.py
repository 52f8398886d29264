# SPDX-License-Identifier: Apache-2.0
"""Owns telling the host that the VM is ready (wire-protocol.md 9): until it has accepted that, and it is written down.

Runs in the supervisor, after provisioning; nothing that happens here makes a provisioned VM unprovisioned.
"""

from collections.abc import Callable

from ipc.errors import AgentError
from supervisor.contact import Contact
from supervisor.journal import Journal
from supervisor.loop import Loop, TimedOut
from supervisor.records import ReadyAccepted
from supervisor.standing import Outcome, Standing

# After the patience of the report itself (an hour and a half for a host that is busy), or at once after a refusal.
AGAIN_S = 60.0
# The VM counts as done when the host takes longer than this: nobody who waits for the VM should wait for the host.
SOON_S = 10.0
TROUBLE = "Ready"


class Ready:
    """The one report of Ready."""

    def __init__(
        self,
        loop: Loop,
        contact: Contact,
        journal: Journal,
        say: Callable[[str, str, str], None],
        standing: Standing,
    ) -> None:
        """`say` is for the log; `standing` gets to know that the VM is done, and whether Ready is still missing."""
        self._loop = loop
        self._contact = contact
        self._journal = journal
        self._say = say
        self._standing = standing
        self._end: tuple[Outcome, str] = ("done", "done")

    async def report(self, outcome: Outcome = "done", text: str = "done") -> None:
        """Tell the host. One that does not accept it is told again and again, beside everything else.

        `outcome` and `text` are how provisioning has ended."""
        self._end = outcome, text
        if not self._standing.is_over:
            self._standing.tell("reports Ready")
        first = self._loop.start("Ready", self._once())
        try:
            accepted = await self._loop.within(first, SOON_S)
        except TimedOut:
            self._lacks("the host has not accepted Ready yet")
            accepted = await first
        if not accepted:
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
            self._lacks(f"{error}; Ready is reported again in {AGAIN_S:g} s")
            return False
        self._standing.has(TROUBLE)
        self._standing.enter(*self._end, ready=True)
        return True

    def _lacks(self, problem: str) -> None:
        self._standing.lacks(TROUBLE, problem)
        outcome, text = self._end
        self._standing.enter(outcome, f"{text}, but {problem}")
