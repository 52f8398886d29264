# SPDX-License-Identifier: Apache-2.0
"""Owns the verifiers: which one judges which new worker, one worker after the other, and when it is ended.

Runs in the supervisor. Workers that are begun together have one in common: beginning one costs as much as beginning a
worker. Each is judged by itself, and none gets work on another one's verdict.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from ipc.errors import AgentError
from supervisor.loop import Loop, Promise
from supervisor.worker import Worker

# The workers that one verifier judges at most, and how long it waits for one more.
MOST, KEPT_S = 8, 0.3

Begin = Callable[[], Coroutine[Promise[Any], None, Worker]]
Judge = Callable[[Worker, Worker], Coroutine[Promise[Any], None, None]]


class Checker:
    """One verifier; `expected` are the workers that count on it now."""

    def __init__(self, verifier: Worker) -> None:
        self.verifier = verifier
        self.expected = 0
        self.taken = 0
        self.turn: Promise[None] | None = None

    @property
    def takes_more(self) -> bool:
        """Whether one more worker may count on it."""
        return self.taken < MOST and not self.verifier.exited.done and not self.verifier.violation


class Checkers:
    """At most one at a time takes workers on. `begin` starts a verifier; `judge` takes (worker, verifier), and raises
    AgentError for a worker that is not as it has to be, or a verifier that failed: then it judges nobody any more."""

    def __init__(self, loop: Loop, begin: Begin, judge: Judge, finish: Callable[[Worker], None]) -> None:
        self._loop = loop
        self._begin = begin
        self._judge = judge
        self._finish = finish
        self._current: Checker | None = None
        # The one that is being begun.
        self._coming: Promise[Checker] | None = None
        self._forget = _nothing

    async def engage(self) -> Checker:
        """The one that is to judge a worker which is about to be begun; `leave` has to follow. Unavailable when there
        is none to be had."""
        self._forget()
        checker = await self._present()
        while not checker.takes_more:
            self._retire(checker)
            checker = await self._present()
        checker.taken += 1
        checker.expected += 1
        return checker

    async def verify(self, worker: Worker, checker: Checker) -> None:
        """Have `worker` judged, after those that came before it. AgentError: it must get no work."""
        before, mine = checker.turn, Promise[None]()
        checker.turn = mine
        try:
            if before is not None:
                await before
            await self._judge(worker, checker.verifier)
        except AgentError:
            self._retire(checker)
            raise
        finally:
            mine.fulfil(None)

    def leave(self, checker: Checker) -> None:
        """One worker counts on it no more, whatever came of that; it is ended once nobody does for a while."""
        checker.expected -= 1
        if checker.expected:
            return
        if self._current is checker and checker.takes_more:
            self._forget()
            self._forget = self._loop.call_later(KEPT_S, self.drop)
        else:
            self._retire(checker)

    def drop(self) -> None:
        """Let the present one judge nobody else; one on whom nobody counts is ended."""
        if self._current is not None:
            self._retire(self._current)

    async def _present(self) -> Checker:
        """The one that takes workers on; begun if there is none."""
        if self._current is not None:
            return self._current
        coming = self._coming = self._coming or self._loop.start("verifier", self._make())
        try:
            self._current = await coming
        finally:
            self._coming = None
        return self._current

    async def _make(self) -> Checker:
        return Checker(await self._begin())

    def _retire(self, checker: Checker) -> None:
        if self._current is checker:
            self._current = None
        if not checker.expected:
            self._finish(checker.verifier)


def _nothing() -> None:
    """Nothing to forget."""
