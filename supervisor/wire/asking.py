# SPDX-License-Identifier: Apache-2.0
"""Owns how patiently requests on one connection are tried, and what is known of that for `ps`.

Runs in the supervisor. It must never look into a document: an answer's status decides, and of a refusal one known word.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from ipc.errors import HostError, HostRefused, HostUnreachable, ResourceGone
from supervisor.loop import Loop, Promise
from supervisor.wire.connection import Answer, Connection
from supervisor.wire.retry import Progress, RetryPolicy, Verdict, judge, next_delay_s

if TYPE_CHECKING:
    from supervisor.wire.host_time import HostTime
    from supervisor.wire.requests import Request

# What a host says to whom its secure channel does not know.
UNKNOWN_CALLER = frozenset({401, 403})

Turn = Callable[[], Coroutine[Promise[Any], None, None]]


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


async def at_once() -> None:
    """No waiting for a turn."""


class Surroundings(msgspec.Struct, frozen=True):
    """What all who ask one host share. `jitter` may change each delay between attempts, seconds in and out;
    `on_unknown` is called when the host does not take us for whom we say we are."""

    loop: Loop
    time: "HostTime"
    jitter: Callable[[float], float]
    on_unknown: Callable[[], None]


class Asker:
    """Requests on `connection`, which is this object's from now on."""

    def __init__(self, around: Surroundings, connection: Connection) -> None:
        self.last_error = ""
        self.last_answer_at: float | None = None
        self._ = around
        self._connection = connection
        self._closed = False
        self._pauses: dict[Promise[None], Callable[[], None]] = {}
        self._troubles: dict[object, Trouble] = {}

    @property
    def connected(self) -> bool:
        """Whether a kept connection stands."""
        return self._connection.is_open

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """What has failed and is tried again."""
        return tuple(self._troubles.values())

    def close(self) -> None:
        """Give up everything that waits for the host, now and later: it fails with HostUnreachable."""
        self._closed = True
        for pause, cancel in list(self._pauses.items()):
            cancel()
            pause.fulfil(None)
        self._connection.close()

    async def ask(self, request: "Request", policy: RetryPolicy, turn: Turn = at_once) -> Answer:
        """An accepted answer, after as many attempts as `policy` allows, each after its `turn`.

        Raises HostUnreachable, HostRefused or ResourceGone."""
        progress = Progress()
        ticket = object()
        try:
            while True:
                await turn()
                outcome = await self._try_once(request, policy)
                if isinstance(outcome, Answer):
                    return outcome
                progress = progress.after(outcome.status if isinstance(outcome, HostRefused) else None)
                is_final = isinstance(outcome, HostRefused) and not policy.after_status
                delay_s = None if is_final else next_delay_s(policy, progress)
                if delay_s is None or self._closed:
                    raise _last_word(outcome, request, progress.attempts)
                delay_s = self._.jitter(delay_s)
                now = self._.loop.clock.monotonic()
                self._troubles[ticket] = Trouble(request.what, str(outcome), progress.attempts, now + delay_s)
                await self._pause(delay_s)
                if self._closed:
                    raise HostUnreachable(f"{outcome}; given up on our side")
        finally:
            self._troubles.pop(ticket, None)

    async def once(self, request: "Request") -> Answer:
        """The answer to one attempt, whatever its status. HostUnreachable when none comes."""
        try:
            answer = await self._connection.exchange(request)
        except HostUnreachable as error:
            self.last_error = str(error)
            raise
        self._.time.heard(answer.date)
        if answer.status in UNKNOWN_CALLER and not request.of_channel:
            self._.on_unknown()
        return answer

    def note_answer(self) -> None:
        """A good answer came just now."""
        self.last_answer_at = self._.loop.clock.monotonic()

    async def _try_once(self, request: "Request", policy: RetryPolicy) -> Answer | HostError:
        """The accepted answer, or why it is worth another try; what ends the request is raised."""
        try:
            answer = await self.once(request)
        except HostUnreachable as error:
            return error
        verdict = judge(answer.status, answer.body, request.accepted)
        if verdict is Verdict.ACCEPTED:
            self.note_answer()
            return answer
        if verdict is Verdict.GONE:
            raise self._noted(gone(answer, request), request)
        refused = self._noted(HostRefused(answer.status, request.what), request)
        if verdict is Verdict.TRY_AGAIN or answer.status in policy.retried_too:
            return refused
        raise refused

    def _noted(self, error: HostError, request: "Request") -> HostError:
        """How the secure channel stands is told apart: a host without one is no trouble."""
        if not request.of_channel:
            self.last_error = str(error)
        return error

    async def _pause(self, delay_s: float) -> None:
        """Let `delay_s` pass, less if `close` comes first."""
        pause: Promise[None] = Promise()
        self._pauses[pause] = self._.loop.call_later(delay_s, lambda: pause.fulfil(None))
        try:
            await pause
        finally:
            self._pauses.pop(pause, None)


def gone(answer: Answer, request: "Request") -> ResourceGone:
    """That the ids which `request` was made with are no longer this VM's."""
    return ResourceGone(f"{request.what}: HTTP status {answer.status}, the ids of the goal state are out of date")


def _last_word(error: HostError, request: "Request", attempts: int) -> HostError:
    if attempts == 1:
        return error
    if isinstance(error, HostRefused):
        return HostRefused(error.status, f"{request.what}, {attempts} attempts")
    return HostUnreachable(f"{error} ({attempts} attempts)")
