# SPDX-License-Identifier: Apache-2.0
"""Owns the conversation with the WireServer: which request, how patiently, and what is known about it for `ps`.

Runs in the supervisor. It returns documents as bytes and must never look into one.
"""

from collections.abc import Callable, Mapping

import msgspec

from ipc.errors import ConfigError, HostError, HostRefused, HostUnreachable, ResourceGone
from supervisor.loop import Loop, Promise
from supervisor.wire.connection import Answer, Connection, Limits
from supervisor.wire.endpoint import is_unicast
from supervisor.wire.report import RoleIds, State, health, role_properties
from supervisor.wire.requests import Catalogue, Request
from supervisor.wire.retry import Progress, RetryPolicy, Verdict, judge, next_delay_s

HTTP_PORT = 80


class Patience(msgspec.Struct, frozen=True):
    """Every number of this client."""

    limits: Limits = Limits()
    questions: RetryPolicy = RetryPolicy()
    # Nobody sees a VM whose Ready was lost, so this is tried for an hour and a half: 2, 3, 5 ... 233, 300 ... s.
    # waagent begins with 30 s and grows without end, the last step over 200 days: long after its host is well again.
    reports: RetryPolicy = RetryPolicy(attempts=30, delay_s=1.0, longest_delay_s=300.0)


class Trouble(msgspec.Struct, frozen=True):
    """A request that has failed at least once and goes on. Times are the loop's monotonic seconds."""

    what: str
    error: str
    attempts: int
    next_try_at: float


class HostStatus(msgspec.Struct, frozen=True):
    """For `ps`. `last_answer_at` (monotonic seconds) is None before the first good answer; `last_error` outlives it."""

    address: str
    port: int
    connected: bool
    last_answer_at: float | None
    last_error: str
    troubles: tuple[Trouble, ...]


class WireServer:
    """The WireServer at (`address`, `port`). Each request raises HostUnreachable, HostRefused or ResourceGone.

    Raises ConfigError when `address` is no dotted IPv4 address: a name would be looked up, which blocks.

    `jitter` may change each delay between attempts, seconds in and out."""

    def __init__(
        self,
        loop: Loop,
        address: str,
        *,
        port: int = HTTP_PORT,
        patience: Patience | None = None,
        jitter: Callable[[float], float] = lambda delay_s: delay_s,
    ) -> None:
        if not is_unicast(address):
            raise ConfigError("WireServer endpoint", f"{address!r} is no IPv4 address of a host")
        self._loop = loop
        self._address = address
        self._port = port
        self._patience = patience or Patience()
        self._jitter = jitter
        self._connection = Connection(loop, (address, port), self._patience.limits)
        self._catalogue = Catalogue(address if port == HTTP_PORT else f"{address}:{port}")
        self._goal_state = b""
        self._closed = False
        self._pauses: dict[Promise[None], Callable[[], None]] = {}
        self._troubles: dict[object, Trouble] = {}
        self._last_error = ""
        self._last_answer_at: float | None = None

    async def fetch_versions(self) -> bytes:
        """The Versions document (wire-protocol.md 3, request 1)."""
        return await self._ask(self._catalogue.versions, self._patience.questions)

    async def fetch_goal_state(self) -> bytes:
        """The GoalState document (request 2): the very same object as last time while its bytes are the same."""
        document = await self._ask(self._catalogue.goal_state, self._patience.questions)
        if document != self._goal_state:
            self._goal_state = document
        return self._goal_state

    async def report_health(self, ids: RoleIds, state: State, substatus: str = "", description: str = "") -> None:
        """Tell the platform how the VM is (request 8); returns when the host has accepted it."""
        report = health(ids, state, substatus, description)
        await self._ask(self._catalogue.health(report), self._patience.reports)

    async def report_role_properties(self, ids: RoleIds, properties: Mapping[str, str]) -> None:
        """Tell the platform what this VM's role has (request 9); returns when the host has accepted it."""
        report = role_properties(ids, properties)
        await self._ask(self._catalogue.role_properties(report), self._patience.questions)

    def close(self) -> None:
        """Give up everything that waits for the host, now and later: it fails with HostUnreachable."""
        self._closed = True
        for pause, cancel in list(self._pauses.items()):
            cancel()
            pause.fulfil(None)
        self._connection.close()

    def status(self) -> HostStatus:
        """What is known about the host now."""
        return HostStatus(
            self._address,
            self._port,
            self._connection.is_open,
            self._last_answer_at,
            self._last_error,
            tuple(self._troubles.values()),
        )

    async def _ask(self, request: Request, policy: RetryPolicy) -> bytes:
        """The body of an accepted answer, after as many attempts as `policy` allows."""
        progress = Progress()
        ticket = object()
        try:
            while True:
                outcome = await self._try_once(request)
                if isinstance(outcome, bytes):
                    return outcome
                progress = progress.after(outcome.status if isinstance(outcome, HostRefused) else None)
                delay_s = next_delay_s(policy, progress)
                if delay_s is None or self._closed:
                    raise _last_word(outcome, request, progress.attempts)
                delay_s = self._jitter(delay_s)
                now = self._loop.clock.monotonic()
                self._troubles[ticket] = Trouble(request.what, str(outcome), progress.attempts, now + delay_s)
                await self._pause(delay_s)
                if self._closed:
                    raise HostUnreachable(f"{outcome}; given up on our side")
        finally:
            self._troubles.pop(ticket, None)

    async def _try_once(self, request: Request) -> bytes | HostError:
        """The accepted body, or why it is worth another try; what ends the request is raised."""
        try:
            answer = await self._connection.exchange(request)
        except HostUnreachable as error:
            self._last_error = str(error)
            return error
        match judge(answer.status, answer.body, request.accepted):
            case Verdict.ACCEPTED:
                self._last_answer_at = self._loop.clock.monotonic()
                return answer.body
            case Verdict.TRY_AGAIN:
                return self._noted(HostRefused(answer.status, request.what))
            case Verdict.GONE:
                raise self._noted(_gone(answer, request))
            case Verdict.REFUSED:
                raise self._noted(HostRefused(answer.status, request.what))

    def _noted(self, error: HostError) -> HostError:
        self._last_error = str(error)
        return error

    async def _pause(self, delay_s: float) -> None:
        """Let `delay_s` pass, less if `close` comes first."""
        pause: Promise[None] = Promise()
        self._pauses[pause] = self._loop.call_later(delay_s, lambda: pause.fulfil(None))
        try:
            await pause
        finally:
            self._pauses.pop(pause, None)


def _gone(answer: Answer, request: Request) -> ResourceGone:
    return ResourceGone(f"{request.what}: HTTP status {answer.status}, the ids of the goal state are out of date")


def _last_word(error: HostError, request: Request, attempts: int) -> HostError:
    if attempts == 1:
        return error
    if isinstance(error, HostRefused):
        return HostRefused(error.status, f"{request.what}, {attempts} attempts")
    return HostUnreachable(f"{error} ({attempts} attempts)")
