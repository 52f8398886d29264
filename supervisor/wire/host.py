# SPDX-License-Identifier: Apache-2.0
"""Owns the conversation with the WireServer: which request, how patiently, and what is known about it for `ps`.

Runs in the supervisor. It returns documents as bytes and must never look into one.
"""

from collections.abc import Callable, Mapping

import msgspec

from ipc.errors import ConfigError
from supervisor.loop import Loop
from supervisor.wire.asking import Asker, HostStatus, Surroundings
from supervisor.wire.connection import Connection, Limits
from supervisor.wire.endpoint import is_unicast
from supervisor.wire.host_time import HostTime
from supervisor.wire.pace import Pace
from supervisor.wire.report import RoleIds, State, health, role_properties
from supervisor.wire.requests import Catalogue, Request
from supervisor.wire.retry import RetryPolicy
from supervisor.wire.sealing import Sealing
from supervisor.wire.signing import SigningKey
from supervisor.wire.stream import Address, SocketMaker, plain_socket
from supervisor.wire.urls import target_on

HTTP_PORT = 80
# The service takes no more telemetry from one VM (wire-protocol.md 3, request 10).
TELEMETRY_CALLS, TELEMETRY_CALLS_WITHIN_S = 15, 15.0


class Patience(msgspec.Struct, frozen=True):
    """Every number of this client."""

    limits: Limits = Limits()
    questions: RetryPolicy = RetryPolicy()
    # Nobody sees a VM whose Ready was lost, so this is tried for an hour and a half: 2, 3, 5 ... 233, 300 ... s.
    # waagent begins with 30 s and grows without end, the last step over 200 days: long after its host is well again.
    reports: RetryPolicy = RetryPolicy(attempts=30, delay_s=1.0, longest_delay_s=300.0)
    # The secure channel is asked about again soon, whatever the host says, so that nothing else waits for it.
    first_look: RetryPolicy = RetryPolicy(after_status=False)
    looks: RetryPolicy = RetryPolicy(attempts=1, after_status=False)
    # Whoever fetches these comes again with the next poll: that is their patience.
    documents: RetryPolicy = RetryPolicy(attempts=3, longest_delay_s=1.0, throttled_attempts=3)
    # A host that throttles is left alone for longer, but no oftener.
    telemetry: RetryPolicy = RetryPolicy(attempts=3, throttled_delay_s=8.0, throttled_attempts=3)
    urgent_telemetry: RetryPolicy = RetryPolicy(attempts=3, throttled_delay_s=2.0, throttled_attempts=3)


class WireServer:
    """The WireServer at (`address`, `port`). Each request raises HostUnreachable, HostRefused or ResourceGone.

    Raises ConfigError when `address` is no dotted IPv4 address: a name would be looked up, which blocks.

    `jitter` may change each delay between attempts, seconds in and out; `make_socket` makes what it connects."""

    def __init__(  # noqa: PLR0913 - a client and its conditions, each by its name
        self,
        loop: Loop,
        address: str,
        *,
        port: int = HTTP_PORT,
        patience: Patience | None = None,
        jitter: Callable[[float], float] = lambda delay_s: delay_s,
        make_socket: SocketMaker = plain_socket,
    ) -> None:
        if not is_unicast(address):
            raise ConfigError("WireServer endpoint", f"{address!r} is no IPv4 address of a host")
        self.address, self.port = address, port
        self._loop = loop
        self._make_socket = make_socket
        self._patience = patience or Patience()
        self.sealing = Sealing(HostTime(loop.clock))
        # Called when the host does not take us for whom we say we are.
        self.on_unknown: Callable[[], None] = lambda: None
        self.around = Surroundings(loop, self.sealing.time, jitter, self._note_unknown)
        self._main = Asker(self.around, self.beside(self._patience.limits))
        # Nothing that is only told to the host may hold up what is asked of it.
        self._aside = Asker(self.around, self.beside(self._patience.limits))
        self._telemetry_pace = Pace(loop, TELEMETRY_CALLS, TELEMETRY_CALLS_WITHIN_S)
        self._catalogue = Catalogue(address if port == HTTP_PORT else f"{address}:{port}")
        self._goal_state = b""

    async def fetch_versions(self) -> bytes:
        """The Versions document (wire-protocol.md 3, request 1)."""
        return await self._ask(self._catalogue.versions, self._patience.questions)

    async def fetch_goal_state(self) -> bytes:
        """The GoalState document (request 2): the very same object as last time while its bytes are the same."""
        # Whoever has had one polls for the next: a host that is well again must not be waited for any longer than that.
        patience = self._patience.documents if self._goal_state else self._patience.questions
        document = await self._ask(self._catalogue.goal_state, patience)
        if document != self._goal_state:
            self._goal_state = document
        return self._goal_state

    async def fetch(self, url: str, what: str, most_bytes: int) -> bytes:
        """A document that the goal state names by `url` (requests 3 to 5); `what` names it in errors.

        ForeignUrl, a HostError, when the URL is not of this host: nothing is sent then."""
        target = target_on(url, self.address, self.port, what)
        return await self._ask(self._catalogue.document(target, what, most_bytes), self._patience.documents)

    async def fetch_sealed(self, url: str, what: str, most_bytes: int, certificate_pem: str, cipher: str) -> bytes:
        """As `fetch`, a document that the host encrypts (requests 6 and 7) with `cipher`, one of requests.CIPHERS, for
        the transport certificate, which is told in PEM."""
        target = target_on(url, self.address, self.port, what)
        certificate = "".join(line.strip() for line in certificate_pem.splitlines() if "----" not in line)
        request = self._catalogue.sealed_document(target, what, most_bytes, certificate, cipher)
        return await self._ask(request, self._patience.documents)

    async def post_telemetry(self, body: bytes, *, urgent: bool) -> None:
        """Hand over events (request 10), three times at most; returns when the host has accepted them."""
        policy = self._patience.urgent_telemetry if urgent else self._patience.telemetry
        await self._aside.ask(self._catalogue.telemetry(body), policy, self._telemetry_pace.turn)

    async def post_observations(self, body: bytes) -> None:
        """Tell the health service what was observed (request 11), once: the next ones come soon."""
        await self._aside.ask(self._catalogue.observations(body), self._patience.looks)

    async def report_health(self, ids: RoleIds, state: State, substatus: str = "", description: str = "") -> None:
        """Tell the platform how the VM is (request 8); returns when the host has accepted it."""
        report = health(ids, state, substatus, description)
        await self._ask(self._catalogue.health(report), self._patience.reports)

    async def report_role_properties(self, ids: RoleIds, properties: Mapping[str, str]) -> None:
        """Tell the platform what this VM's role has (request 9); returns when the host has accepted it."""
        report = role_properties(ids, properties)
        await self._ask(self._catalogue.role_properties(report), self._patience.questions)

    async def fetch_channel_status(self, *, first: bool = False) -> bytes:
        """How the secure channel stands. With `first` a host that does not answer is asked again, as patiently as with
        any question; one that answers no is taken at its word."""
        return await self._ask(
            self._catalogue.channel_status, self._patience.first_look if first else self._patience.looks
        )

    async def fetch_channel_key(self) -> bytes:
        """A new key of the secure channel, which counts for nothing before it is attested."""
        return await self._ask(self._catalogue.channel_key, self._patience.looks)

    async def attest(self, key: SigningKey) -> None:
        """Latch `key`, for good; returns when the host has accepted it."""
        await self._ask(self._catalogue.attestation(key), self._patience.looks)

    def beside(self, limits: Limits, port: int | None = None) -> Connection:
        """One more connection to the same host, its requests sealed as all are; it is the caller's to close."""
        address = (self.address, port or self.port)
        return Connection(self._loop, address, limits, make_socket=self._make_socket, added=self.sealing.added)

    def elsewhere(self, address: Address, limits: Limits) -> Connection:
        """A connection to another service of the platform, its requests sealed as the host's are."""
        return Connection(self._loop, address, limits, added=self.sealing.added)

    def close(self) -> None:
        """Give up everything that waits for the host, now and later: it fails with HostUnreachable."""
        self._main.close()
        self._aside.close()

    def status(self) -> HostStatus:
        """What is known about the host now."""
        main = self._main
        troubles = (*main.troubles, *self._aside.troubles)
        return HostStatus(self.address, self.port, main.connected, main.last_answer_at, main.last_error, troubles)

    def _note_unknown(self) -> None:
        self.on_unknown()

    async def _ask(self, request: Request, policy: RetryPolicy) -> bytes:
        return (await self._main.ask(request, policy)).body
