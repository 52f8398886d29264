# SPDX-License-Identifier: Apache-2.0
"""Owns what the emulated WireServer knows and which requests it accepts (wire-protocol.md sections 2, 3, 4, 9, 10).

Runs in test processes; the caller holds the lock. Judging changes nothing: a judgement carries its effect with it.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.fabric.config_documents import CONFIG_DOCUMENTS
from tests.fabric.documents import GoalState, Health, read_health, read_role_ids
from tests.fabric.documents import versions_xml as make_versions_xml
from tests.fabric.wire_book import Refusal
from tests.fabric.wire_request import Request

PROTOCOL_VERSION = "2012-11-30"
AGENT_NAME = "WALinuxAgent"
CIPHERS = ("AES128_CBC", "DES_EDE3_CBC")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
REASONS = {
    200: "OK",
    202: "Accepted",
    205: "Reset Content",
    206: "Partial Content",
    302: "Found",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    410: "Gone",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True)
class Answer:
    """A status and a body as the host means them; faults may put something else on the wire."""

    status: int
    body: bytes = b""
    content_type: str = "text/xml; charset=utf-8"


@dataclass(frozen=True)
class Judgement:
    """The answer to a request, rule and reason of a refusal (empty when accepted), and what accepting it changes."""

    answer: Answer
    why: str = ""
    rule: str = ""
    effect: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Offer:
    """How the host presents itself at the start: protocol versions, first goal state, how many of the first goal
    state answers lack the role instance, whether documents begin with a byte order mark."""

    preferred: str = PROTOCOL_VERSION
    supported: tuple[str, ...] = ("2015-04-05", "2012-11-30", "2012-09-15", "2011-12-31", "2010-12-15")
    goal_state: GoalState | None = None
    incomplete: int = 0
    byte_order_mark: bool = False


class Host:
    """The host's own state: goal states issued and fetched, reports received.

    Order: a report is refused before a whole goal state (one with a role instance) was handed out, as nobody can know
    its ids. Ready may follow ProvisioningFailed, directly too: a VM whose provisioning failed is repaired, or has
    provisioning switched off, and then reports Ready; the host keeps the last word. Versions need not be asked for
    first: the host remembers nobody, and an agent that saved its endpoint is right not to ask again."""

    def __init__(self, offer: Offer, endpoint: str) -> None:
        self.offer = offer
        first = offer.goal_state or GoalState()
        self.goal_state = first if first.endpoint else replace(first, endpoint=endpoint)
        self.incomplete = offer.incomplete
        self.issued = [self.goal_state]
        self.fetched: list[GoalState] = []
        self.health_reports: list[Health] = []
        self.role_properties: list[bytes] = []

    def publish(self, goal_state: GoalState, incomplete: int) -> None:
        """Hand out `goal_state` from now on, without its role instance in the first `incomplete` answers."""
        self.goal_state = goal_state
        self.incomplete = incomplete
        self.issued.append(goal_state)

    def judge(self, request: Request) -> Judgement:
        """The host's answer to a request that was read as far as its form allowed."""
        try:
            return self._judge(request)
        except Refusal as refusal:
            return refused(refusal)

    def _judge(self, request: Request) -> Judgement:
        if request.refusal is not None:
            raise request.refusal
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
        self._check_header_set_a(request)
        current = self.goal_state
        if self.incomplete > 0:
            return Judgement(self._document(current.xml(with_instance=False)), effect=self._count_incomplete)
        return Judgement(self._document(current.xml()), effect=lambda: self.fetched.append(current))

    def _config(self, request: Request) -> Judgement:
        self._check_header_set_a(request)
        return self._part(request)

    def _certificates(self, request: Request) -> Judgement:
        self._check_header_set_a(request)
        demand = request.trial.demand
        cipher = request.header("x-ms-cipher-name")
        demand("cipher-name", cipher in CIPHERS, f"x-ms-cipher-name is {cipher!r} instead of {' or '.join(CIPHERS)}")
        problem = _certificate_problem(request.header("x-ms-guest-agent-public-x509-cert"))
        demand("transport-certificate", not problem, f"x-ms-guest-agent-public-x509-cert {problem}")
        return self._part(request)

    def _part(self, request: Request) -> Judgement:
        """A document that the goal state names: its address is right only as long as that goal state is current."""
        demand, name = request.trial.demand, route(request)
        demand("goal-state-first", bool(self.fetched), "a part of a goal state before any goal state was fetched")
        issued = any(request.target == known.targets().get(name) for known in self.issued)
        demand("address-issued", issued, f"no goal state names {request.target}", 404)
        current = request.target == self.goal_state.targets().get(name)
        demand("address-current", current, "the address is that of an earlier goal state", 410)
        return Judgement(self._document(CONFIG_DOCUMENTS[name](self.goal_state)))

    def _health(self, request: Request) -> Judgement:
        self._check_header_set_b(request)
        report = read_health(request.body, request.trial)
        self._check_ids(request, report.container_id, report.instance_id)
        known = report.incarnation in {str(known.incarnation) for known in self.fetched}
        why = f"GoalStateIncarnation {report.incarnation[:40]!r} was never fetched"
        request.trial.demand("incarnation-fetched", known, why)
        return Judgement(Answer(200), effect=lambda: self.health_reports.append(report))

    def _role_properties(self, request: Request) -> Judgement:
        self._check_header_set_b(request)
        container_id, instance_id = read_role_ids(request.body, request.trial)
        self._check_ids(request, container_id, instance_id)
        return Judgement(Answer(202), effect=lambda: self.role_properties.append(request.body))

    def _check_header_set_a(self, request: Request) -> None:
        expected = (
            ("agent-name", "x-ms-agent-name", AGENT_NAME),
            ("protocol-version", "x-ms-version", PROTOCOL_VERSION),
        )
        for rule, name, value in expected:
            found = request.header(name)
            request.trial.demand(rule, found == value, f"{name} is {found!r} instead of {value!r}")
        offered = PROTOCOL_VERSION in {self.offer.preferred, *self.offer.supported}
        why = f"x-ms-version {PROTOCOL_VERSION} is not offered by this host"
        request.trial.demand("protocol-offered", offered, why)

    def _check_header_set_b(self, request: Request) -> None:
        self._check_header_set_a(request)
        kind = request.header("Content-Type")
        right = (kind or "").replace(" ", "").lower() == "text/xml;charset=utf-8"
        request.trial.demand("content-type", right, f"Content-Type is {kind!r} instead of 'text/xml;charset=utf-8'")

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


def _certificate_problem(header: str | None) -> str:
    """What is wrong with a transport certificate as a header, empty when nothing is (wire-protocol.md 3, set C)."""
    # Late: it would cost every start of the host a quarter of a second, and our agent asks for no certificates yet.
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if header is None:
        return "is missing"
    try:
        key = x509.load_der_x509_certificate(base64.b64decode(header, validate=True)).public_key()
    except (binascii.Error, ValueError):
        return "is no certificate in base64"
    return "" if isinstance(key, RSAPublicKey) else "has no RSA key: nothing can be enveloped for it"


class NotEmulated:
    """What stands where the real host has a service that this emulation lacks: it reads strictly, and refuses aloud."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def judge(self, request: Request) -> Judgement:
        """A refusal, always: for its form if that is wrong."""
        missing = Refusal("emulated", f"not emulated: {request.method} {request.target} at {self._endpoint}", 404)
        return refused(request.refusal or missing)


def refused(refusal: Refusal) -> Judgement:
    """A refusal whose reason is in the answer's body as well."""
    reason = f"refused: {refusal.why}"
    body = reason.encode(errors="backslashreplace")
    return Judgement(Answer(refusal.status, body, "text/plain; charset=utf-8"), reason, refusal.rule)


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
}
# What the real host has at this address beside those.
NOT_EMULATED = (
    re.compile(r"GET " + _PART + r"config&type=fullConfig&incarnation=\d+"),
    re.compile(r"GET " + _PART + r"remoteAccess\w*&incarnation=\d+", re.IGNORECASE),
    re.compile(r"POST /machine/?\?comp=telemetrydata"),
    re.compile(r"POST /HealthService"),
)
HANDLERS: dict[str, Callable[[Host, Request], Judgement]] = {
    "versions": Host._versions,
    "goalstate": Host._goal_state,
    "hostingenvironment": Host._config,
    "sharedconfig": Host._config,
    "extensionsconfig": Host._config,
    "certificates": Host._certificates,
    "health": Host._health,
    "roleproperties": Host._role_properties,
}


def route(request: Request) -> str:
    """The short name of the resource asked for (a key of RESOURCES), or other."""
    return next((name for name, (_, form) in RESOURCES.items() if form.fullmatch(request.target)), "other")
