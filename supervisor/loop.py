# SPDX-License-Identifier: Apache-2.0
"""Owns the supervisor's one event loop: a poller over descriptors, ZeroMQ sockets and timers, and the coroutines on it.

Runs in the supervisor, single-threaded. It must never block outside `poll`, and no task may do so either. Together
with the workers' runtime it is one of the two places that may catch every exception.
"""

import heapq
import itertools
import select
from collections.abc import Callable, Coroutine, Generator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from ipc.errors import AgentError
from supervisor.clock import Clock

if TYPE_CHECKING:
    import zmq

T = TypeVar("T")
Watched: TypeAlias = "int | zmq.Socket[bytes]"
# What to watch for, as ZeroMQ numbers it.
READ, WRITE = 1, 2


class TimedOut(AgentError):
    """A wait on the loop passed its deadline."""


class Promise(Generic[T]):
    """A value that comes later; awaiting it suspends the task until `fulfil` or `fail`. The first outcome counts."""

    def __init__(self) -> None:
        self._outcome: tuple[T | None, BaseException | None] | None = None
        self._waiters: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        return self._outcome is not None

    def fulfil(self, value: T) -> None:
        self._settle((value, None))

    def fail(self, error: BaseException) -> None:
        self._settle((None, error))

    def when_done(self, action: Callable[[], None]) -> None:
        """Run `action` at once if settled, else as soon as it is."""
        if self._outcome is None:
            self._waiters.append(action)
        else:
            action()

    def result(self) -> T:
        """The value, or the failure raised; only after `done`."""
        assert self._outcome is not None
        value, error = self._outcome
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def __await__(self) -> Generator["Promise[Any]", None, T]:
        if self._outcome is None:
            yield self
        return self.result()

    def _settle(self, outcome: tuple[T | None, BaseException | None]) -> None:
        if self._outcome is None:
            self._outcome = outcome
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter()


class Poller(Protocol):
    """What the loop needs of one."""

    def register(self, source: Any, events: int) -> None: ...
    def unregister(self, source: Any) -> None: ...
    def poll(self, timeout: int | None) -> list[tuple[Any, int]]: ...


class Descriptors:
    """The poller until the first ZeroMQ socket is watched: it needs no ZeroMQ, which takes a while to load."""

    def __init__(self) -> None:
        self._poll = select.poll()

    def register(self, source: int, events: int) -> None:
        self._poll.register(source, (events & READ and select.POLLIN) | (events & WRITE and select.POLLOUT))

    def unregister(self, source: int) -> None:
        self._poll.unregister(source)

    def poll(self, timeout: int | None) -> list[tuple[int, int]]:
        return self._poll.poll(timeout)


class Loop:
    """Descriptors, timers and tasks of one process."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.turns = 0
        self._poller: Poller = Descriptors()
        self._watched: dict[Watched, tuple[Callable[[], None], int]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._due: set[int] = set()
        self._order = itertools.count()
        self._ready: list[Callable[[], None]] = []
        self._on_failure: Callable[[str, BaseException], None] = _raise_failure
        self._stopping = False

    def on_failure(self, report: Callable[[str, BaseException], None]) -> None:
        """What to do with an exception that a task or callback lets through: (its name, the exception)."""
        self._on_failure = report

    def watch(self, source: Watched, action: Callable[[], None], events: int = READ) -> None:
        """Call `action` on every turn in which `source` (descriptor or ZeroMQ socket) is ready."""
        if not isinstance(source, int) and isinstance(self._poller, Descriptors):
            self._poller = import_module("zmq").Poller()
            for earlier, (_, wanted) in self._watched.items():
                self._poller.register(earlier, wanted)
        self._poller.register(source, events)
        self._watched[source] = action, events

    def unwatch(self, source: Watched) -> None:
        """Forget `source`; harmless when it is not watched."""
        if self._watched.pop(source, None) is not None:
            self._poller.unregister(source)

    def call_later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """Run `action` once after `seconds`; the returned function takes that back."""
        number = next(self._order)
        heapq.heappush(self._timers, (self.clock.monotonic() + max(0.0, seconds), number, action))
        self._due.add(number)
        return lambda: self._due.discard(number)

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        promise: Promise[None] = Promise()
        self.call_later(seconds, lambda: promise.fulfil(None))
        await promise

    async def ready(self, source: Watched, events: int, timeout_s: float) -> None:
        """Wait until `source` has one of `events` (READ, WRITE); TimedOut after `timeout_s`."""
        promise: Promise[None] = Promise()
        cancel = self.call_later(timeout_s, lambda: promise.fail(TimedOut(f"nothing within {timeout_s:g} s")))
        self.watch(source, lambda: promise.fulfil(None), events)
        try:
            await promise
        finally:
            cancel()
            self.unwatch(source)

    async def within(self, promise: Promise[T], timeout_s: float) -> T:
        """The promise's value; TimedOut when it takes longer than `timeout_s`, which does not settle the promise."""
        waiter: Promise[None] = Promise()
        cancel = self.call_later(timeout_s, lambda: waiter.fail(TimedOut(f"nothing within {timeout_s:g} s")))
        promise.when_done(lambda: waiter.fulfil(None))
        try:
            await waiter
        finally:
            cancel()
        return promise.result()

    def start(
        self, name: str, work: Coroutine[Promise[Any], None, T], *, detached: bool = False, at_once: bool = False
    ) -> Promise[T]:
        """Run the coroutine `work` as a task called `name`; the promise carries its result.

        Nobody awaits a `detached` task: its failure is reported through `on_failure`. With `at_once` it comes as far as
        its first wait before this returns."""
        outcome: Promise[T] = Promise()
        self._ready.append(lambda: self._step(name, work, outcome, detached))
        if at_once:
            self._ready.pop()()
        return outcome

    async def settled(self, promise: Promise[Any]) -> None:
        """Wait until `promise` has its outcome, whichever it is."""
        waiter: Promise[None] = Promise()
        promise.when_done(lambda: waiter.fulfil(None))
        await waiter

    async def all(self, *promises: Promise[Any]) -> None:
        """Wait until every one is settled; then raise the first failure, if there is one."""
        for promise in promises:
            await self.settled(promise)
        for promise in promises:
            promise.result()

    def stop(self) -> None:
        """Leave `run` after this turn."""
        self._stopping = True

    def run(self) -> None:
        """Turn until `stop`."""
        while not self._stopping:
            self.turn()

    def turn(self) -> None:
        """One turn: everything that is ready now, then one poll until the next event or timer."""
        self._run_ready()
        if self._stopping:
            return
        try:
            # With nothing to watch ZeroMQ's poller does not wait, not even for a timer.
            poller = self._poller if self._watched else Descriptors()
            events = poller.poll(self._patience_ms())
        except InterruptedError:
            events = []
        self.turns += 1
        for source, mask in events:
            action, _ = self._watched.get(source, (None, 0))
            if action is not None and mask:
                self._guard("callback", action)
        self._run_timers()
        self._run_ready()

    def _step(self, name: str, work: Coroutine[Promise[Any], None, T], outcome: Promise[T], detached: bool) -> None:
        try:
            awaited = work.send(None)
        except StopIteration as stop:
            outcome.fulfil(stop.value)
        except Exception as error:
            outcome.fail(error)
            if detached:
                self._on_failure(name, error)
        else:
            awaited.when_done(lambda: self._ready.append(lambda: self._step(name, work, outcome, detached)))

    def _run_ready(self) -> None:
        while self._ready:
            ready, self._ready = self._ready, []
            for action in ready:
                self._guard("task", action)

    def _run_timers(self) -> None:
        now = self.clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, number, action = heapq.heappop(self._timers)
            if number in self._due:
                self._due.discard(number)
                self._guard("timer", action)

    def _patience_ms(self) -> int | None:
        while self._timers and self._timers[0][1] not in self._due:
            heapq.heappop(self._timers)
        if self._ready:
            return 0
        if not self._timers:
            return None
        # Rounded up: a poll that returns a fraction of a millisecond early would spin until the timer is due.
        return max(0, int((self._timers[0][0] - self.clock.monotonic()) * 1000) + 1)

    def _guard(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._on_failure(what, error)


def _raise_failure(name: str, error: BaseException) -> None:
    raise error
