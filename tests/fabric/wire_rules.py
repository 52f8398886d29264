# SPDX-License-Identifier: Apache-2.0
"""Owns what the emulated WireServer knows and which requests it accepts (wire-protocol.md sections 2, 3, 4, 9, 10).

Runs in test processes; the caller holds the lock. Judging changes nothing: a judgement carries its effect with it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from supervisor.clock import Clock, SystemClock
from tests.fabric.answers import JSON, Answer, Judgement, judged, refused
from tests.fabric.blob_store import BlobStore
from tests.fabric.config_documents import CONFIG_DOCUMENTS, certificates_xml
from tests.fabric.documents import GoalState, Health, read_health, read_role_ids
from tests.fabric.documents import versions_xml as make_versions_xml
from tests.fabric.host_channel import ATTESTED, Channel, check_form, check_signature, check_wanted
from tests.fabric.host_signature import written
from tests.fabric.plan import Plan, settled
from tests.fabric.telemetry_rules import Event, Rate, read_observations, read_telemetry
from tests.fabric.tenancy import Tenancy
from tests.fabric.wire_book import Refusal
from tests.fabric.wire_headers import PROTOCOL_VERSION, check_set_a, check_set_b, check_set_c
from tests.fabric.wire_request import Request

# Who calls from an address that has no name of its own.
VM = "vm"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Offer:
    """How the host presents itself at the start: protocol versions, first goal state, how many of the first goal
    state answers lack the role instance, whether documents begin with a byte order mark, scheme and host of its
    storage account (empty: one that can't be resolved), the kinds of the tenant's first certificates."""

    preferred: str = PROTOCOL_VERSION
    supported: tuple[str, ...] = ("2015-04-05", "2012-11-30", "2012-09-15", "2011-12-31", "2010-12-15")
    goal_state: GoalState | None = None
    incomplete: int = 0
    byte_order_mark: bool = False
    storage: str = ""
    certificates: tuple[str, ...] = ()


class Host:
    """The host's own state: goal states issued and fetched, reports received, the tenant's certificates and blobs.

    Order: a report is refused before a whole goal state (one with a role instance) was handed out, as nobody can know
    its ids. Ready may follow ProvisioningFailed, directly too: a VM whose provisioning failed is repaired, or has
    provisioning switched off, and then reports Ready; the host keeps the last word. Versions need not be asked for
    first: the host remembers nobody, and an agent that saved its endpoint is right not to ask again.

    Callers are told apart by `identities`, from an address to a name; each name has a secure channel of its own."""

    def __init__(self, offer: Offer, endpoint: str, clock: Clock | None = None) -> None:
        self.offer = offer
        self.channels: dict[str, Channel] = {VM: Channel()}
        self.identities: dict[str, str] = {}
        self.clock_ahead_s = 0.0
        self._clock = clock or SystemClock()
        self.tenancy = Tenancy()
        self.tenancy.renew(offer.certificates, self.wall)
        self.blobs = BlobStore(offer.storage) if offer.storage else BlobStore()
        first = offer.goal_state or GoalState()
        self.goal_state = replace(first, endpoint=first.endpoint or endpoint, plan=self.settle(first.plan))
        self.incomplete = offer.incomplete
        self.issued = [self.goal_state]
        self.fetched: list[GoalState] = []
        self.health_reports: list[Health] = []
        self.role_properties: list[bytes] = []
        self.events: list[Event] = []
        self.observations: list[dict[str, object]] = []
        self._telemetry_rate = Rate()

    def settle(self, plan: Plan) -> Plan:
        """The plan with everything in it that the host fills in. Raises ValueError."""
        return settled(plan, self.blobs, self.tenancy, self.wall)

    def publish(self, goal_state: GoalState, incomplete: int) -> None:
        """Hand out `goal_state` from now on, without its role instance in the first `incomplete` answers."""
        self.goal_state = goal_state
        self.incomplete = incomplete
        self.issued.append(goal_state)

    def route(self, request: Request) -> str:
        return route(request)

    def judge(self, request: Request) -> Judgement:
        """The host's answer to a request that was read as far as its form allowed."""
        return self.judge_by(request, self._judge)

    def judge_by(self, request: Request, judge: Callable[[Request], Judgement]) -> Judgement:
        """The same for another service of this host: signed as all of them, by the host's clock."""

        def signed(request: Request) -> Judgement:
            check_signature(self._channel_of(request), request, self.wall)
            return judge(request)

        judgement = judged(request, signed)
        tells_time = self._channel_of(request).mode is not None
        date = written(self.wall) if tells_time else ""
        return replace(judgement, answer=replace(judgement.answer, date=date))

    @property
    def wall(self) -> float:
        """What time it is at the host, seconds since 1970."""
        return self._clock.wall() + self.clock_ahead_s

    def channel(self, identity: str) -> Channel:
        """The secure channel of the caller of that name; a new name has one like the VM's was at first."""
        return self.channels.setdefault(identity, Channel())

    def _channel_of(self, request: Request) -> Channel:
        return self.channel(self.identities.get(request.caller, VM))

    def _judge(self, request: Request) -> Judgement:
        name, asked = route(request), f"{request.method} {request.target}"
        real = any(pattern.fullmatch(asked) for pattern in NOT_EMULATED)
        request.trial.demand("emulated", not real, f"not emulated: {asked}", 404)
        request.trial.demand("resource", name != "other", f"no such resource: {asked}", 404)
        method = RESOURCES[name][0]
        request.trial.demand("method", request.method == method, f"{request.method} instead of {method}", 405)
        return HANDLERS[name](self, request)

    def _versions(self, _request: Request) -> Judgement:
        return Judgement(self._document(make_versions_xml(self.offer.preferred, self.offer.supported)))

    def _goal_state(self, request: Request) -> Judgement:
        check_set_a(request, self._offers)
        current = self.goal_state
        if self.incomplete > 0:
            return Judgement(self._document(current.xml(with_instance=False)), effect=self._count_incomplete)
        return Judgement(self._document(current.xml()), effect=lambda: self.fetched.append(current))

    def _config(self, request: Request) -> Judgement:
        check_set_a(request, self._offers)
        return self._part(request)

    def _channel_status(self, request: Request) -> Judgement:
        check_form(request, self.wall)
        channel = self._channel_of(request)
        if channel.mode is None:
            return Judgement(Answer(404))
        return Judgement(Answer(200, channel.status().encode(), JSON))

    def _channel_key(self, request: Request) -> Judgement:
        check_form(request, self.wall)
        check_wanted(request)
        channel = self._channel_of(request)
        self._check_latching(request, channel)
        return Judgement(Answer(200, channel.new_key(self.wall).encode(), JSON))

    def _attestation(self, request: Request) -> Judgement:
        check_form(request, self.wall)
        channel, about = self._channel_of(request), ATTESTED.fullmatch(request.target)
        assert about is not None
        self._check_latching(request, channel)
        return Judgement(Answer(200), effect=lambda: setattr(channel, "latched", about[1]))

    def _check_latching(self, request: Request, channel: Channel) -> None:
        open_to_a_key = channel.is_on and not channel.latched
        request.trial.demand("channel-on", open_to_a_key, "the channel is off, or has its key already", 409)

    def _certificates(self, request: Request) -> Judgement:
        header, cipher = check_set_c(request, self._offers)
        self._check_part(request)
        if not self.tenancy.agrees(cipher):
            return Judgement(Answer(400, b"<Error><Message>this cipher is not to be had</Message></Error>"))
        data = self.tenancy.certificates_data(header, cipher)
        return Judgement(self._document(certificates_xml(self.goal_state, data, self.tenancy.format)))

    def _remote_access(self, request: Request) -> Judgement:
        header, cipher = check_set_c(request, self._offers)
        self._check_part(request)
        users = self.goal_state.plan.users or ()
        return Judgement(self._document(self.tenancy.users_xml(users, self.goal_state, header, cipher)))

    def _part(self, request: Request) -> Judgement:
        self._check_part(request)
        return Judgement(self._document(CONFIG_DOCUMENTS[route(request)](self.goal_state)))

    def _check_part(self, request: Request) -> None:
        """A document that the goal state names: its address is right only as long as that goal state is current."""
        demand, name = request.trial.demand, route(request)
        demand("goal-state-first", bool(self.fetched), "a part of a goal state before any goal state was fetched")
        issued = any(request.target == known.targets().get(name) for known in self.issued)
        demand("address-issued", issued, f"no goal state names {request.target}", 404)
        current = request.target == self.goal_state.targets().get(name)
        demand("address-current", current, "the address is that of an earlier goal state", 410)

    def _health(self, request: Request) -> Judgement:
        check_set_b(request, self._offers)
        report = read_health(request.body, request.trial)
        self._check_ids(request, report.container_id, report.instance_id)
        known = report.incarnation in {str(known.incarnation) for known in self.fetched}
        why = f"GoalStateIncarnation {report.incarnation[:40]!r} was never fetched"
        request.trial.demand("incarnation-fetched", known, why)
        return Judgement(Answer(200), effect=lambda: self.health_reports.append(report))

    def _role_properties(self, request: Request) -> Judgement:
        check_set_b(request, self._offers)
        container_id, instance_id = read_role_ids(request.body, request.trial)
        self._check_ids(request, container_id, instance_id)
        return Judgement(Answer(202), effect=lambda: self.role_properties.append(request.body))

    def _snapshot(self, request: Request) -> Judgement:
        """What a backup's own extension asks for; the answer says how much it has sent."""
        return Judgement(Answer(200, f'{{"bytes": {len(request.body)}}}'.encode(), JSON))

    def _telemetry(self, request: Request) -> Judgement:
        check_set_b(request, self._offers)
        self._telemetry_rate.admit(self._clock.monotonic(), request.trial)
        events = read_telemetry(request.body, request.trial)
        return Judgement(Answer(200), effect=lambda: self.events.extend(events))

    def _health_service(self, request: Request) -> Judgement:
        kind = request.header("Content-Type")
        request.trial.demand("observations-type", kind == "application/json", f"Content-Type is {kind!r}")
        observations = read_observations(request.body, request.trial)
        return Judgement(Answer(200), effect=lambda: self.observations.extend(observations))

    @property
    def _offers(self) -> bool:
        return PROTOCOL_VERSION in {self.offer.preferred, *self.offer.supported}

    def _check_ids(self, request: Request, container_id: str, instance_id: str) -> None:
        """An id that was right once is gone (410: fetch the goal state anew); one that never was is wrong."""
        demand, current = request.trial.demand, self.goal_state
        first = "a report before any goal state with a role instance was fetched"
        demand("goal-state-first", bool(self.fetched), first)
        issued = container_id in {known.container_id for known in self.issued}
        demand("container-issued", issued, f"ContainerId {container_id[:60]!r} was never issued")
        is_current = container_id == current.container_id
        demand("container-current", is_current, "ContainerId is that of an earlier goal state", 410)
        named = instance_id == current.instance_id
        demand("instance-current", named, f"InstanceId {instance_id[:80]!r} is not the current one")

    def _count_incomplete(self) -> None:
        self.incomplete -= 1

    def _document(self, text: str) -> Answer:
        return Answer(200, (BYTE_ORDER_MARK if self.offer.byte_order_mark else b"") + text.encode())


class NotEmulated:
    """What stands where the real host has a service that this emulation lacks: it reads strictly, and refuses aloud."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def judge(self, request: Request) -> Judgement:
        """A refusal, always: for its form if that is wrong."""
        missing = Refusal("emulated", f"not emulated: {request.method} {request.target} at {self._endpoint}", 404)
        return refused(request.refusal or missing)

    def route(self, request: Request) -> str:
        return route(request)


_PART = r"/machine/[^/?]+/[^/?]+\?comp="
# Name -> method and the form of the target.
RESOURCES: dict[str, tuple[str, re.Pattern[str]]] = {
    "versions": ("GET", re.compile(r"/\?comp=versions")),
    "goalstate": ("GET", re.compile(r"/machine/\?comp=goalstate")),
    "hostingenvironment": ("GET", re.compile(_PART + r"config&type=hostingEnvironmentConfig&incarnation=\d+")),
    "sharedconfig": ("GET", re.compile(_PART + r"config&type=sharedConfig&incarnation=\d+")),
    "extensionsconfig": ("GET", re.compile(_PART + r"config&type=extensionsConfig&incarnation=\d+")),
    "certificates": ("GET", re.compile(_PART + r"certificates&incarnation=\d+")),
    "health": ("POST", re.compile(r"/machine\?comp=health")),
    "roleproperties": ("POST", re.compile(r"/machine\?comp=roleProperties")),
    "channelstatus": ("GET", re.compile(r"/secure-channel/status")),
    "channelkey": ("POST", re.compile(r"/secure-channel/key")),
    "attestation": ("POST", ATTESTED),
    "remoteaccess": ("GET", re.compile(_PART + r"remoteaccessinfo&incarnation=\d+")),
    "telemetry": ("POST", re.compile(r"/machine/?\?comp=telemetrydata")),
    "healthservice": ("POST", re.compile(r"/HealthService")),
    "snapshot": ("POST", re.compile(r"/metadata/recsvc/snapshot/dosnapshot(\?api-version=2017-12-01)?")),
}
# What the real host has at this address beside those.
NOT_EMULATED = (re.compile(r"GET " + _PART + r"config&type=fullConfig&incarnation=\d+"),)
HANDLERS: dict[str, Callable[[Host, Request], Judgement]] = {
    "versions": Host._versions,
    "goalstate": Host._goal_state,
    "hostingenvironment": Host._config,
    "sharedconfig": Host._config,
    "extensionsconfig": Host._config,
    "certificates": Host._certificates,
    "health": Host._health,
    "roleproperties": Host._role_properties,
    "channelstatus": Host._channel_status,
    "channelkey": Host._channel_key,
    "attestation": Host._attestation,
    "remoteaccess": Host._remote_access,
    "telemetry": Host._telemetry,
    "healthservice": Host._health_service,
    "snapshot": Host._snapshot,
}


def route(request: Request) -> str:
    """The short name of the resource asked for (a key of RESOURCES), or other."""
    return next((name for name, (_, form) in RESOURCES.items() if form.fullmatch(request.target)), "other")
