# SPDX-License-Identifier: Apache-2.0
"""Owns the provisioning of this VM from first look to Ready: who is asked for what, in which order, and what is kept.

Runs in the supervisor. It writes down each step before it is acted on, and never acts on what the worker proposes
before `validate` has compared it with facts.
"""

from collections.abc import Callable
from contextlib import suppress

import msgspec

from ipc.errors import AgentError, HostError
from ipc.messages import (
    AccountFacts,
    CommitAccount,
    CommitHostName,
    CommitKeys,
    CommitPassword,
    CommitPaths,
    CommitRootLock,
    CommitSshd,
    CommitSudo,
    Message,
    PlanProvisioning,
    ProvisioningOptions,
)
from supervisor import facts, options, planning, validate
from supervisor.config import Config
from supervisor.contact import Contact
from supervisor.credentials import Credentials
from supervisor.dispatch import Table
from supervisor.files import read_text, write_whole
from supervisor.fleet import Fleet
from supervisor.host_keys import HostKeys
from supervisor.journal import Journal
from supervisor.layout import Layout
from supervisor.loop import Loop, Promise, TimedOut
from supervisor.medium import Finder, Medium
from supervisor.ready import Ready
from supervisor.records import (
    ProvisioningBegun,
    ProvisioningFailed,
    ProvisioningFinished,
)
from supervisor.steps import Steps

MAX_PROBLEM_CHARACTERS = 2000
PRIVATE = 0o600
# How long all else keeps the processors free for the start of the keys' maker; it takes a tenth of that.
HEAD_START_S = 0.2
# What stands for the id of a VM that has none; the journal adds the boot, or every VM would be the same one.
UNKNOWN_VM = "unknown"
# What each committer's order is called in the log and the journal, and who carries it out.
STEPS: dict[type[Message], tuple[str, str]] = {
    CommitHostName: ("host name", "hostname"),
    CommitAccount: ("account", "account"),
    CommitPassword: ("password", "password"),
    CommitSudo: ("sudo", "sudoers"),
    CommitSshd: ("sshd settings", "sshd"),
    CommitKeys: ("SSH keys", "home-keys"),
    CommitRootLock: ("root password", "root-lock"),
}
MARKER, CUSTOM_DATA, OVF_COPY, DISABLE = "provisioned", "CustomData", "ovf-env.xml", "disable_agent"

Say = Callable[[str, str, str], None]


class Parts(msgspec.Struct, frozen=True):
    """What provisioning works with; one of each in the process."""

    loop: Loop
    fleet: Fleet
    table: Table
    contact: Contact
    credentials: Credentials
    journal: Journal
    finder: Finder
    config: Config
    layout: Layout
    say: Say
    keep_secret: Callable[[str], Callable[[], None]]


class Provisioning:
    """One provisioning; `text` tells `ps` where it stands."""

    def __init__(self, parts: Parts, vm_id: str) -> None:
        self.text = "not begun"
        self._ = parts
        self._forget_secret: Callable[[], None] = lambda: None
        self._vm_id = vm_id
        self._is_known = not vm_id.startswith(UNKNOWN_VM)
        self._steps = Steps(parts.fleet, parts.journal, parts.say, self._tell)
        self._paths = CommitPaths(
            parts.config[options.SUDOERS_DIR],
            parts.config[options.SSH_DIR],
            parts.config[options.PASSWORD_PATH],
            parts.config[options.HOME_DIR],
        )
        self._ready = Ready(parts.loop, parts.contact, parts.journal, parts.say, self._tell)
        self._host_keys = HostKeys(self._steps, parts.journal, parts.config, self._paths.ssh_dir)

    async def run(self) -> None:
        """Provision if that is still to be done, and tell the host how it went. Never raises AgentError."""
        part = self._
        marker = read_text(f"{part.layout.lib}/{MARKER}")
        state = part.journal.state
        # Ready was accepted and the marker is gone: somebody removed it, so that the VM is provisioned anew.
        finished = state.finished == self._vm_id and (marker is not None or not state.ready)
        if marker is None and not finished:
            not_ours = facts.left_to_others(
                part.config[options.PROVISIONING_ENABLED], part.config[options.PROVISIONING_AGENT]
            )
            await (self._stand_aside(not_ours) if not_ours else self._provision())
            return
        try:
            if marker is not None and self._is_known and not facts.same_vm(marker, self._vm_id):
                part.say("warning", "provisioning", f"this disk was made for VM {marker!r}, now it is in {self._vm_id}")
                part.credentials.forget()
                part.journal.append(ProvisioningFinished(self._vm_id))
                finished = True
            self._write_marker()
            part.table.advance("steady")
            await part.loop.all(
                part.loop.start("contact", part.contact.meet()),
                part.loop.start("transport key", self._make_transport_key()),
            )
            if finished and not part.journal.state.ready:
                await self._ready.report()
            else:
                self._tell("done on an earlier start")
        except AgentError as error:
            self.text = f"done on an earlier start; but {error}"
            part.say("error", "provisioning", self.text)

    async def _stand_aside(self, why: str) -> None:
        """Nothing of the VM is changed; the host only learns that it runs (provisioning.md 3, step 1)."""
        part = self._
        part.say("warning", "provisioning", f"not done by this agent: {why}")
        self._tell(f"not done by this agent: {why}")
        part.table.advance("steady")
        try:
            await part.contact.meet()
            await self._make_transport_key()
            await part.contact.report("Ready")
            part.say("info", "host", "accepted Ready")
        except AgentError as error:
            part.say("error", "host", f"Ready is not reported: {error}")

    async def _provision(self) -> None:
        part = self._
        part.table.advance("provisioning")
        tasks: list[Promise[None]] = []
        try:
            if part.journal.state.begun != self._vm_id:
                part.credentials.forget()
            part.journal.append(ProvisioningBegun(self._vm_id))
            # First: making them is the longest chain, everything else goes on beside it.
            host_keys = part.loop.start("host keys", self._host_keys.make())
            tasks.append(host_keys)
            with suppress(TimedOut):
                await part.loop.within(self._host_keys.under_way, HEAD_START_S)
            contact = part.loop.start("contact", self._announce())
            tasks.append(contact)
            medium = await self._read_medium()
            self._tell("waits for the host")
            await contact
            await self._apply(medium)
            self._tell("waits for the keys")
            await host_keys
            await self._host_keys.install()
            self._finish(medium)
        except AgentError as error:
            await self._fail(error, *tasks)
        else:
            await self._ready.report()
            part.table.advance("steady")
            await self._make_transport_key()
        finally:
            self._forget_secret()

    async def _announce(self) -> None:
        """Find the host and tell it that provisioning starts."""
        await self._.contact.meet()
        try:
            await self._.contact.report("NotReady", "Provisioning", "Starting")
            self._.say("info", "host", "accepted NotReady (Provisioning, Starting)")
        except HostError as unheard:
            self._.say("warning", "host", f"does not accept the report that provisioning starts: {unheard}")

    async def _read_medium(self) -> Medium:
        self._tell("looks for the medium")
        medium = await self._.finder.find(self._.config[options.PROVISIONING_MEDIA_TIMEOUT])
        ovf = medium.ovf
        if ovf.password is not None:
            self._forget_secret = self._.keep_secret(ovf.password.reveal())
        self._.say("info", "provisioning", f"{medium.device} read: account {ovf.user_name!r}, host {ovf.host_name!r}")
        for warning in ovf.warnings:
            self._.say("warning", "provisioning", f"ovf-env.xml: {warning}")
        return medium

    async def _apply(self, medium: Medium) -> None:
        """Have the plan made, check it whole, then commit it step by step."""
        self._tell("plans")
        request = PlanProvisioning(medium.ovf, _options(self._.config), self._account(medium))
        plan = await planning.plan(self._.fleet, request, medium.custom_data)
        for proposal in plan.proposals:
            # The account's facts are read anew each time: the step before may have made it.
            order = validate.commit_for(proposal, self._paths, self._account(medium))
            if order is not None:
                step, kind = STEPS[type(order)]
                path = f" {order.path}" if isinstance(order, CommitKeys) else ""
                await self._steps.take(f"{step}{path}", kind, order)
        if plan.custom_data is not None:
            write_whole(f"{self._.layout.lib}/{CUSTOM_DATA}", plan.custom_data, PRIVATE)
            self._.say("info", "provisioning", f"custom data stored, {len(plan.custom_data)} bytes")
        write_whole(f"{self._.layout.lib}/{OVF_COPY}", medium.redacted, PRIVATE)

    async def _make_transport_key(self) -> None:
        """Not before Ready: nothing of a provisioning needs it, and its making would slow down all that does."""
        try:
            if await self._.credentials.ensure():
                self._.say("info", "supervisor", "transport key made")
        except AgentError as error:
            self._.say("error", "supervisor", f"no transport key: {error}; the next start tries again")

    def _finish(self, medium: Medium) -> None:
        """From here on the VM counts as provisioned, whatever happens to the report."""
        self._.journal.append(ProvisioningFinished(self._vm_id))
        if not medium.ovf.provision_guest_agent:
            write_whole(f"{self._.layout.lib}/{DISABLE}", b"", PRIVATE)
        self._write_marker()

    def _write_marker(self) -> None:
        path = f"{self._.layout.lib}/{MARKER}"
        content = self._vm_id if self._is_known else UNKNOWN_VM
        if read_text(path) != content:
            write_whole(path, content.encode(), PRIVATE)

    async def _fail(self, error: AgentError, *tasks: Promise[None]) -> None:
        """Say what went wrong, here and to the host; the next start tries again."""
        if self._.fleet.winding_up:
            # Cut short by us: no failure that the host, or the next start, should hear of.
            self._tell("interrupted: the service is stopping; the next start goes on")
            self._.say("info", "provisioning", self.text)
            return
        problem = str(error)
        self.text = f"failed: {problem}"
        self._.say("error", "provisioning", f"failed: {problem}; the next start tries again")
        for task in tasks:
            await self._.loop.settled(task)
        try:
            self._.journal.append(ProvisioningFailed(problem[:MAX_PROBLEM_CHARACTERS]))
        except AgentError as unwritten:
            self._.say("error", "journal", str(unwritten))
        try:
            await self._.contact.report("NotReady", "ProvisioningFailed", problem)
            self._.say("info", "host", "accepted NotReady (ProvisioningFailed)")
        except AgentError as unheard:
            self._.say("error", "host", f"does not accept the report of the failure: {unheard}")

    def _account(self, medium: Medium) -> AccountFacts:
        return facts.account_facts(medium.ovf.user_name, self._paths.home_dir)

    def _tell(self, text: str) -> None:
        self.text = text


def _options(config: Config) -> ProvisioningOptions:
    """The settings that the provisioning worker needs."""
    return ProvisioningOptions(
        config[options.PASSWORD_CRYPT_ID],
        config[options.PASSWORD_SALT_LENGTH],
        config[options.ALLOW_RESET_SYS_USER],
        config[options.DELETE_ROOT_PASSWORD],
        config[options.DECODE_CUSTOM_DATA] or config[options.EXECUTE_CUSTOM_DATA],
        config[options.HOME_DIR],
        config[options.SSH_CLIENT_ALIVE_INTERVAL],
    )
