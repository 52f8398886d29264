# SPDX-License-Identifier: Apache-2.0
"""Owns the provisioning of this VM from first look to Ready: by whom, in which order, and what the host hears of it.

Runs in the supervisor. It writes down each step before it is acted on.
"""

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from ipc.errors import AgentError
from ipc.messages import Ovf
from supervisor import facts, options
from supervisor.coexistence import Choice, TwoProvisioners, choose
from supervisor.course import Course
from supervisor.custom_data import CustomData
from supervisor.fulfilment import Fulfilment
from supervisor.grounds import wanted_certificates
from supervisor.host_keys import KIND, HostKeys
from supervisor.labels import Labels
from supervisor.loop import Promise, TimedOut
from supervisor.marker import Mark
from supervisor.medium import Medium
from supervisor.parts import Forget, Parts
from supervisor.standing import NOBODY
from supervisor.vm_identity import VmId

if TYPE_CHECKING:
    from supervisor.cloud_init import CloudInit
    from supervisor.ovf_certificates import OvfCertificates

PLANNER = "provisioning"
# How long all else keeps the processors free for the start of the keys' maker; it takes a tenth of that.
HEAD_START_S = 0.2


class Provisioning:
    """One provisioning; `standing` tells `ps` and `status` where it stands."""

    def __init__(self, parts: Parts, vm_id: VmId, earlier: str = "done on an earlier start") -> None:
        """`earlier` is what `status` says of a provisioning that this process finds done."""
        self.standing = parts.standing
        self.vm_id = vm_id
        self.has_read_secrets = False
        self._earlier = earlier
        self._ = parts
        self._forget_secret: Forget = lambda: None
        self._course = Course(parts, vm_id)
        steps, config, lib = self._course.steps, parts.config, parts.layout.lib
        custom_data = CustomData(steps, parts.journal, config, parts.layout, parts.say)
        self._fulfilment = Fulfilment(parts.fleet, config, steps, parts.journal, custom_data, lib)
        self._labels = Labels(steps, parts.layout)
        self._host_keys = HostKeys(steps, parts.journal, config, config[options.SSH_DIR], parts.say)

    @property
    def text(self) -> str:
        """Where it stands, in words."""
        return self.standing.text

    @property
    def why_asleep(self) -> str:
        """Why the agent has nothing more to do once this is over; empty when it has."""
        marker = self._course.marker
        return f"{marker.disable_path} is there (ProvisionGuestAgent=false)" if marker.agent_is_off else ""

    async def run(self) -> None:
        """Provision if that is still to be done, and tell the host how it went. Never raises AgentError."""
        choice = self._choose()
        if choice.who == "others":
            await self._stand_aside(choice)
            return
        mark = self._course.mark
        if mark is Mark.NEW:
            self._.say("info", "provisioning", f"{choice.who} provisions this VM: {choice.why}")
            await self._provision(choice)
        elif mark is Mark.MOVED:
            await self._move_in()
        else:
            await self._go_on(adopted=mark is Mark.ADOPTED)

    async def _stand_aside(self, choice: Choice) -> None:
        """Nothing of the VM is changed: the marker is written and the host told that it runs (provisioning.md 3, 1)."""
        part, course = self._, self._course
        text = f"not done by this agent: {choice.why}"
        part.say("warning", "provisioning", text)
        part.table.advance("steady")
        self.standing.leave_to(NOBODY, text)
        try:
            if not course.is_finished or course.marker.read() is None:
                course.begin()
                course.finish()
            await part.contact.meet()
            if course.owes_ready:
                await course.report_for_others(text)
            else:
                self.standing.enter("not-ours", ready=True)
            await course.make_transport_key()
        except AgentError as error:
            part.say("error", "provisioning", f"{text}; but {error}")
            self.standing.lacks("agent", str(error))

    async def _go_on(self, *, adopted: bool) -> None:
        """Provisioned on an earlier start, by whoever did it; what is still owed to the host is told."""
        part, course = self._, self._course
        try:
            if adopted:
                course.begin()
                course.finish()
            course.marker.write()
            part.table.advance("steady")
            owes_ready = course.owes_ready
            if owes_ready:
                self.standing.enter("running", "done on an earlier start; Ready is still to be reported")
            else:
                self.standing.enter("done", self._earlier, ready=True)
            if owes_ready or not self.why_asleep:
                contact = part.loop.start("contact", part.contact.meet())
                await part.loop.all(contact, part.loop.start("transport key", course.make_transport_key()))
            if owes_ready:
                await course.report(await self._host_keys.current())
        except AgentError as error:
            self.standing.lacks("agent", str(error))
            self.standing.enter("done", f"done on an earlier start; but {error}")
            part.say("error", "provisioning", self.text)

    async def _move_in(self) -> None:
        """The disk of a VM with another id (provisioning.md 10.3): what that one left goes, the host gets Ready."""
        part, course = self._, self._course
        part.table.advance("provisioning")
        moved = f"this disk was in VM {course.marker.read()!r}, and is in {course.vm_id.name} now"
        self.standing.enter("running", moved)
        part.say("warning", "provisioning", f"{moved}: what that one left is removed; users, keys, certificates stay")
        try:
            course.begin()
            # Few VMs ever need what is imported here and below: it would be in memory for good.
            changed_vm = import_module("supervisor.changed_vm").ChangedVm(course.steps, part.layout.lib, part.say)
            await changed_vm.clear(course.vm_id.name)
            course.finish()
            await part.contact.meet()
            keys = await self._host_keys.current()
        except AgentError as error:
            await course.fail(error)
            return
        await course.report(keys)
        part.table.advance("steady")
        await course.make_transport_key()

    async def _provision(self, choice: Choice) -> None:
        part, course = self._, self._course
        part.table.advance("provisioning")
        self.standing.enter("running")
        tasks: list[Promise[None]] = []
        by_cloud_init = choice.who == "cloud-init"
        try:
            course.begin()
            ovf = await (self._await_cloud_init() if by_cloud_init else self._fulfil(choice, tasks))
            keys = await self._host_keys.current()
            course.fingerprints.show(keys)
            course.finish(provision_guest_agent=ovf.provision_guest_agent)
        except AgentError as error:
            part.fleet.prepared.drop()
            await course.fail(error, *tasks)
        else:
            await course.report(keys, "done, by cloud-init" if by_cloud_init else "done")
            part.table.advance("steady")
            await course.make_transport_key()
        finally:
            self._forget_secret()

    async def _fulfil(self, choice: Choice, tasks: list[Promise[None]]) -> Ovf:
        """Do what the medium asks for; what is begun beside that is added to `tasks`."""
        part = self._
        _refuse_two(choice)
        # First: making them is the longest chain, everything else goes on beside it.
        host_keys = part.loop.start("host keys", self._host_keys.make())
        tasks.append(host_keys)
        with suppress(TimedOut):
            await part.loop.within(self._host_keys.under_way, HEAD_START_S)
        contact = part.loop.start("contact", self._course.announce())
        tasks.append(contact)
        medium = await self._read_medium()
        part.fleet.prepared.begin(PLANNER)
        self.standing.tell("waits for the host")
        await contact
        certificates = await _certificates(part, medium.ovf)
        self.standing.tell("plans")
        plan = await self._fulfilment.plan(medium, certificates)
        if host_keys.done:
            host_keys.result()  # keys that can't be made are a reason to change nothing
        # Once more: cloud-init may have been switched on since the start, by a generator or by hand.
        _refuse_two(self._choose())
        await self._fulfilment.carry_out(plan, medium, self.standing.tell, KIND)
        self.standing.tell("waits for the keys")
        await host_keys
        await self._host_keys.install()
        await self._labels.apply(self._fulfilment.home(medium))
        return medium.ovf

    async def _await_cloud_init(self) -> Ovf:
        """cloud-init does it, if its data source is Azure's; this agent waits for what it makes (provisioning.md 3)."""
        part = self._
        self.standing.agent = "cloud-init"
        patience_s = part.config[options.CLOUD_INIT_TIMEOUT]
        cloud_init: CloudInit = import_module("supervisor.cloud_init").CloudInit(
            part.loop, part.fleet, patience_s, self.standing.tell
        )
        ovf = await cloud_init.document(part.layout.lib)
        self.standing.tell("waits for the host")
        await self._course.announce()
        made = await cloud_init.host_key(part.config[options.SSH_DIR], part.config[options.HOST_KEY_TYPE])
        part.say("info", "provisioning", f"cloud-init has made its SSH host keys: {made}")
        return ovf

    def _choose(self) -> Choice:
        config = self._.config
        enabled, agent = config[options.PROVISIONING_ENABLED], config[options.PROVISIONING_AGENT]
        return choose(enabled, agent, facts.cloud_init_enabled())

    async def _read_medium(self) -> Medium:
        self.standing.tell("looks for the medium")
        self.has_read_secrets = True
        medium = await self._.finder.find(self._.config[options.PROVISIONING_MEDIA_TIMEOUT], self.standing.tell)
        ovf = medium.ovf
        if ovf.password is not None:
            self._forget_secret = self._.keep_secret(ovf.password.reveal())
        self._.say("info", "provisioning", f"{medium.device} read: account {ovf.user_name!r}, host {ovf.host_name!r}")
        for warning in ovf.warnings:
            self._.say("warning", "provisioning", f"ovf-env.xml: {warning}")
        return medium


async def _certificates(part: Parts, ovf: Ovf) -> "OvfCertificates | None":
    """Those that the document names keys by: for them alone the transport key is made before Ready."""
    wanted = wanted_certificates(ovf)
    if not wanted:
        return None
    store = import_module("supervisor.certificates").Certificates(part)
    fetched: OvfCertificates = import_module("supervisor.ovf_certificates").OvfCertificates(part, store)
    await fetched.fetch(wanted, part.standing.tell)
    return fetched


def _refuse_two(choice: Choice) -> None:
    """TwoProvisioners unless this agent is the only one that would provision."""
    if choice.conflict:
        raise TwoProvisioners(choice.conflict)
    if choice.who != "this agent":
        raise TwoProvisioners(f"{choice.why}, which it was not when this agent began")
