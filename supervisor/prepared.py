# SPDX-License-Identifier: Apache-2.0
"""Owns the workers that wait for a job: begun before it is there, or done with another one of the same errand.

Runs in the supervisor. They are audited and counted like all others, and ended when nobody takes them. It must never
hand out one that is not verified: what it is given to start workers by sees to that.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from ipc.errors import AgentError
from supervisor.births import Births, Say
from supervisor.loop import Loop, Promise
from supervisor.worker import Worker, WorkerDied, WorkerHung, WorkerViolation

# A job that comes later than this gets a worker of its own.
KEPT_S = 10.0


class Errand(msgspec.Struct, frozen=True):
    """What several jobs are for: whose they are, one handler's. `is_over`: with this one."""

    name: str
    is_over: bool = False


Start = Callable[[str], Coroutine[Promise[Any], None, Worker]]


class Prepared:
    """A few workers of each kind. That one dies, or can't be had, costs nothing: the job gets another one."""

    def __init__(
        self, loop: Loop, start: Start, births: Births, say: Say, violated: Callable[[str, WorkerViolation], None]
    ) -> None:
        """`start` makes a worker of a kind that waits for its job, or raises AgentError and leaves none; `violated` is
        told of a violation of which no job will hear."""
        self._loop = loop
        self._start = start
        self._births = births
        self._say = say
        self._violated = violated
        self._begun: defaultdict[str, deque[Promise[Worker]]] = defaultdict(deque)
        # By kind and errand.
        self._kept: dict[tuple[str, str], Worker] = {}
        self._closed = False

    def begin(self, kind: str, number: int = 1) -> None:
        """Have `number` workers of `kind` ready for whoever takes them next, those that there are already included."""
        for _ in range(0 if self._closed else number - len(self._begun[kind])):
            begun = self._loop.start(f"prepare {kind}", self._begin(kind), at_once=True)
            self._begun[kind].append(begun)
            begun.when_done(partial(self._keep, kind, begun))

    def keep(self, worker: Worker, errand: Errand) -> None:
        """Have it wait for the next job of the errand; it is ended if there won't be one, or policy lets it do none."""
        key = worker.kind, errand.name
        self._let_go_kept(key)
        if self._closed or errand.is_over or worker.jobs >= worker.profile.lifetime.jobs:
            self._end(worker)
            return
        worker.rest()
        self._kept[key] = worker

        def let_go() -> None:
            if self._kept.get(key) is worker:
                self._let_go_kept(key)

        worker.exited.when_done(let_go)
        self._loop.call_later(KEPT_S, let_go)

    async def take(self, kind: str, errand: Errand | None = None) -> Worker | None:
        """The one that has done the errand's job before, or the one that was begun first, as soon as it is ready; None
        if there is none, or that one lives no more."""
        kept = self._kept.pop((kind, errand.name), None) if errand is not None else None
        if kept is not None and kept.is_silent():
            return kept
        if kept is not None:
            self._end(kept)
        begun = self._begun[kind].popleft() if self._begun[kind] else None
        with suppress(AgentError):
            worker = None if begun is None else await begun
            if worker is None or not worker.exited.done:
                return worker
            self._end(worker)
        return None

    def make_room(self, kind: str) -> None:
        """End the one of `kind` that has waited longest for more of its errand: another job needs its place."""
        for key in [key for key in self._kept if key[0] == kind][:1]:
            self._let_go_kept(key)

    def forgo(self, kind: str) -> None:
        """End those of `kind` that no job has taken: none will come."""
        for begun in tuple(self._begun[kind]):
            self._let_go(kind, begun)
        for key in [key for key in self._kept if key[0] == kind]:
            self._let_go_kept(key)

    def drop(self) -> None:
        """End all that no job has taken."""
        for kind in {*self._begun, *(kind for kind, _ in self._kept)}:
            self.forgo(kind)

    def close(self) -> None:
        """The same, and nothing is begun from now on."""
        self._closed = True
        self.drop()

    async def _begin(self, kind: str) -> Worker:
        try:
            return await self._start(kind)
        except WorkerViolation as violation:
            self._violated(kind, violation)
            raise
        except AgentError as error:
            level = "warning" if isinstance(error, WorkerDied | WorkerHung) else "verbose"
            self._say(level, kind, f"not prepared: {error}")
            raise

    def _keep(self, kind: str, begun: Promise[Worker]) -> None:
        """For a while, or until it dies of something."""

        def let_go() -> None:
            if begun in self._begun[kind]:
                self._let_go(kind, begun)

        try:
            begun.result().exited.when_done(let_go)
        except AgentError:
            let_go()
        else:
            self._loop.call_later(KEPT_S, let_go)

    def _let_go(self, kind: str, begun: Promise[Worker]) -> None:
        self._begun[kind].remove(begun)
        begun.when_done(partial(self._end_begun, begun))

    def _let_go_kept(self, key: tuple[str, str]) -> None:
        worker = self._kept.pop(key, None)
        if worker is not None:
            self._end(worker)

    def _end_begun(self, begun: Promise[Worker]) -> None:
        # Where there is none, whoever was to start it has ended it.
        with suppress(AgentError):
            self._end(begun.result())

    def _end(self, worker: Worker) -> None:
        if worker.violation:
            self._violated(worker.kind, WorkerViolation(worker.name, worker.violation))
        self._births.finish(worker)
