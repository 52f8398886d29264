# SPDX-License-Identifier: Apache-2.0
"""Owns what the emulated WireServer knows and which requests it accepts (wire-protocol.md sections 2, 3, 4, 9, 10).

Runs in test processes; the caller holds the lock. Judging changes nothing: a judgement carries its effect with it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.fabric.documents import GoalState, Health, RoleProperties, WrongDocument, read_health, read_role_properties
from tests.fabric.documents import versions_xml as make_versions_xml
from tests.fabric.wire_request import Request

PROTOCOL_VERSION = "2012-11-30"
AGENT_NAME = "WALinuxAgent"
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
    """The answer to a request, the reason of a refusal (empty when accepted), and what accepting it changes."""

    answer: Answer
    why: str = ""
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


class Refusal(Exception):
    """A request is refused with `status` because of `why`."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.why = why
        self.status = status


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
        self.role_properties: list[RoleProperties] = []

    def publish(self, goal_state: GoalState, incomplete: int) -> None:
        """Hand out `goal_state` from now on, without its role instance in the first `incomplete` answers."""
        self.goal_state = goal_state
        self.incomplete = incomplete
        self.issued.append(goal_state)

    def judge(self, request: Request) -> Judgement:
        """The host's answer to a request that was read whole."""
        try:
            if request.problem:
                raise Refusal(request.problem)
            handler = HANDLERS.get(route(request))
            if handler is None:
                raise Refusal(f"no such resource: {request.method} {request.target}", 404)
            return handler(self, request)
        except Refusal as refusal:
            return refused(refusal.why, refusal.status)
        except WrongDocument as wrong:
            return refused(str(wrong))

    def _versions(self, _request: Request) -> Judgement:
        return Judgement(self._document(make_versions_xml(self.offer.preferred, self.offer.supported)))

    def _goal_state(self, request: Request) -> Judgement:
        self._check_header_set_a(request)
        current = self.goal_state
        if self.incomplete > 0:
            return Judgement(self._document(current.xml(with_instance=False)), effect=self._count_incomplete)
        return Judgement(self._document(current.xml()), effect=lambda: self.fetched.append(current))

    def _health(self, request: Request) -> Judgement:
        self._check_header_set_b(request)
        report = read_health(request.body)
        self._check_ids(report.container_id, report.instance_id)
        if report.incarnation not in {str(known.incarnation) for known in self.fetched}:
            raise Refusal(f"GoalStateIncarnation {report.incarnation[:40]!r} was never fetched")
        return Judgement(Answer(200), effect=lambda: self.health_reports.append(report))

    def _role_properties(self, request: Request) -> Judgement:
        self._check_header_set_b(request)
        report = read_role_properties(request.body)
        self._check_ids(report.container_id, report.instance_id)
        return Judgement(Answer(202), effect=lambda: self.role_properties.append(report))

    def _check_header_set_a(self, request: Request) -> None:
        expected = (("x-ms-agent-name", AGENT_NAME), ("x-ms-version", PROTOCOL_VERSION))
        for name, value in expected:
            if request.header(name) != value:
                raise Refusal(f"{name} is {request.header(name)!r} instead of {value!r}")
        if PROTOCOL_VERSION not in {self.offer.preferred, *self.offer.supported}:
            raise Refusal(f"x-ms-version {PROTOCOL_VERSION} is not offered by this host")

    def _check_header_set_b(self, request: Request) -> None:
        self._check_header_set_a(request)
        kind = (request.header("Content-Type") or "").replace(" ", "").lower()
        if kind != "text/xml;charset=utf-8":
            raise Refusal(f"Content-Type is {request.header('Content-Type')!r} instead of 'text/xml;charset=utf-8'")

    def _check_ids(self, container_id: str, instance_id: str) -> None:
        """An id that was right once is gone (410: fetch the goal state anew); one that never was is wrong."""
        if not self.fetched:
            raise Refusal("a report before any goal state with a role instance was fetched")
        if container_id != self.goal_state.container_id:
            if container_id in {known.container_id for known in self.issued}:
                raise Refusal("ContainerId is that of an earlier goal state", 410)
            raise Refusal(f"ContainerId {container_id[:60]!r} was never issued")
        if instance_id != self.goal_state.instance_id:
            raise Refusal(f"InstanceId {instance_id[:80]!r} is not the current one")

    def _count_incomplete(self) -> None:
        self.incomplete -= 1

    def _document(self, text: str) -> Answer:
        return Answer(200, (BYTE_ORDER_MARK if self.offer.byte_order_mark else b"") + text.encode())


def refused(why: str, status: int = 400) -> Judgement:
    """A refusal whose reason is in the answer's body as well."""
    reason = f"refused: {why}"
    return Judgement(Answer(status, reason.encode(errors="backslashreplace"), "text/plain; charset=utf-8"), reason)


ROUTES = {
    ("GET", "/?comp=versions"): "versions",
    ("GET", "/machine/?comp=goalstate"): "goalstate",
    ("POST", "/machine?comp=health"): "health",
    ("POST", "/machine?comp=roleProperties"): "roleproperties",
}
HANDLERS: dict[str, Callable[[Host, Request], Judgement]] = {
    "versions": Host._versions,
    "goalstate": Host._goal_state,
    "health": Host._health,
    "roleproperties": Host._role_properties,
}


def route(request: Request) -> str:
    """The short name of the resource asked for: versions, goalstate, health, roleproperties, or other."""
    return ROUTES.get((request.method, request.target), "other")
