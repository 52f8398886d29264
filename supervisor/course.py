# SPDX-License-Identifier: Apache-2.0
"""Owns what every provisioning has in common, whoever does it: its beginning, its good end, its bad end.

Runs in the supervisor. It writes down each of them before it is acted on, so that the next process goes on from there.
"""

from collections.abc import Sequence

from ipc.errors import AgentError, HostError
from ipc.messages import HostKey
from supervisor import options
from supervisor.files import remove
from supervisor.fingerprints import Fingerprints
from supervisor.loop import Promise
from supervisor.marker import Mark, Marker, look
from supervisor.parts import Parts
from supervisor.ready import Ready
from supervisor.records import ProvisioningBegun, ProvisioningFailed, ProvisioningFinished
from supervisor.standing import NEXT_START
from supervisor.status import with_consequence
from supervisor.steps import Steps
from supervisor.vm_identity import VmId, is_another, is_this

MAX_PROBLEM_CHARACTERS = 2000


class Course:
    """The course of one provisioning of the VM `vm_id`."""

    def __init__(self, parts: Parts, vm_id: VmId) -> None:
        self.vm_id = vm_id
        self.marker = Marker(parts.layout.lib, vm_id)
        self.steps = Steps(parts.fleet, parts.journal, parts.say, parts.standing.tell, parts.audit)
        self.fingerprints = Fingerprints(parts.loop, parts.contact, parts.say, parts.show, parts.standing)
        self._ = parts
        self._ready = Ready(parts.loop, parts.contact, parts.journal, parts.say, parts.standing)

    @property
    def mark(self) -> Mark:
        """How far this VM is, by marker and journal."""
        return look(self.marker.read(), self.vm_id, self._.journal.state)

    @property
    def is_finished(self) -> bool:
        """Whether the journal has it that this VM is done."""
        return is_this(self._.journal.state.finished, self.vm_id)

    @property
    def owes_ready(self) -> bool:
        """Whether this VM is done, and the host has not accepted that yet."""
        return self.is_finished and not self._.journal.state.ready

    def begin(self) -> None:
        """Write it down; what journal and credentials knew of another VM goes.

        The record of the custom data's run outlasts the journal: it goes only where it is certain that this is another
        provisioning, after one that was finished or for another VM, never because nothing is known."""
        state = self._.journal.state
        if state.begun != self.vm_id.name:
            self._.credentials.forget()
        if state.finished or is_another(state.begun, self.vm_id):
            remove(self._.layout.custom_data_record)
        self._.journal.append(ProvisioningBegun(self.vm_id.name))

    async def announce(self) -> None:
        """Find the host and tell it that provisioning starts."""
        await self._.contact.meet()
        try:
            await self._.contact.report("NotReady", "Provisioning", "Starting")
            self._.say("info", "host", "accepted NotReady (Provisioning, Starting)")
        except HostError as unheard:
            self._.say("warning", "host", f"does not accept the report that provisioning starts: {unheard}")

    def finish(self, *, provision_guest_agent: bool = True) -> None:
        """From here on the VM counts as provisioned, whatever happens to the report."""
        if not provision_guest_agent:
            # First: a process that is killed in between would never look at the document again.
            self.marker.disable_agent()
        self._.journal.append(ProvisioningFinished(self.vm_id.name))
        self.marker.write()

    async def report(self, keys: Sequence[HostKey], text: str = "done") -> None:
        """Tell the host: the SSH host keys, then Ready; `text` says then, for `ps`, how it went."""
        await self.fingerprints.report(keys, self._.config[options.HOST_KEY_TYPE])
        await self._ready.report("done", text)

    async def report_for_others(self, text: str) -> None:
        """Tell the host Ready for a VM that this agent did not provision; `text` says why, for `ps`."""
        await self._ready.report("not-ours", text)

    async def fail(self, error: AgentError, *tasks: Promise[None]) -> None:
        """Say what went wrong, here and to the host; the next start tries again. `tasks` are let come to their end."""
        part = self._
        if part.fleet.winding_up:
            # Cut short by us: no failure that the host, or the next start, should hear of.
            part.standing.tell("interrupted: the service is stopping; the next start goes on")
            part.say("info", "provisioning", part.standing.text)
            return
        problem = str(error)
        changed = self.steps.changed
        part.say("error", "provisioning", f"failed: {with_consequence(problem, changed=changed)}; {NEXT_START}")
        part.standing.fail(problem, changed=changed)
        for task in tasks:
            await part.loop.settled(task)
        try:
            part.journal.append(ProvisioningFailed(problem[:MAX_PROBLEM_CHARACTERS]))
        except AgentError as unwritten:
            part.say("error", "journal", str(unwritten))
        try:
            if part.contact.goal_state is None:
                await part.contact.meet()
            await part.contact.report("NotReady", "ProvisioningFailed", with_consequence(problem, changed=changed))
            part.say("info", "host", "accepted NotReady (ProvisioningFailed)")
        except AgentError as unheard:
            part.say("error", "host", f"does not accept the report of the failure: {unheard}")

    async def make_transport_key(self) -> None:
        """Not before Ready: nothing of a provisioning needs it, and its making would slow down all that does."""
        try:
            if await self._.credentials.ensure():
                self._.say("info", "supervisor", "transport key made")
        except AgentError as error:
            self._.say("error", "supervisor", f"no transport key: {error}; the next start tries again")
            self._.standing.lacks("transport key", str(error))
