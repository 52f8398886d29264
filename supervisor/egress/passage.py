# SPDX-License-Identifier: Apache-2.0
"""Owns one open grant: its listener and redirect, the forwarder that serves it, and each request that it passes on.

Runs in the supervisor. It judges every request itself, whatever the forwarder thought of it, and puts each on record.
"""

import os
from collections.abc import Callable
from contextlib import suppress

from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.errors import AgentError, BadDescriptor, ChannelClosed, ProtocolViolation, UnpermittedMessage
from ipc.messages import Forward, ForwardAnswer, ForwardRefused, ForwardRequest, Message, RefusalNoted, WireGrant
from policy.grants import is_passed_on, permitted
from supervisor.audit_log_entry import Audit, Decision, Entry
from supervisor.egress.pace import Pace
from supervisor.fleet import Fleet
from supervisor.loop import Loop, TimedOut
from supervisor.restarts import Intensity, Restarts
from supervisor.wire.forwarded import Forwarded
from supervisor.worker import Worker, WorkerDied, WorkerViolation

KIND = "forwarder"
Say = Callable[[str, str, str], None]
# How long a handler may say nothing; then it is listened on.
SILENCE_S = 3600.0
# Whoever is refused again and again is on record once in a while, with how often.
REFUSALS_EVERY_S = 10.0


class Passage:
    """The forwarder of one grant, replaced when it dies; `held` are descriptors that keep the grant open."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it works with, each given once, in one place
        self,
        loop: Loop,
        fleet: Fleet,
        way: Forwarded,
        order: Forward,
        listener: int,
        say: Say,
        audit: Audit,
    ) -> None:
        """`listener` stays its maker's; `way`, and each forwarder that `order` is given to, are this object's."""
        self.passed = 0
        self.refused = 0
        self._loop = loop
        self._fleet = fleet
        self._way = way
        self._order = order
        self._listener = listener
        self._say = say
        self._audit = audit
        self._pace = Pace(loop)
        self._restarts = Restarts(Intensity(), lambda: 0.5)
        self._closed = False
        self._worker: Worker | None = None
        self._untold = 0
        self._told_at = float("-inf")

    @property
    def grant(self) -> WireGrant:
        return self._order.grant

    def close(self) -> None:
        """End the forwarder, and with it every connection of the handler's."""
        self._closed = True
        self._way.close()
        if self._worker is not None:
            # Whoever waits for its next word hears of its end, and lets go of it.
            self._fleet.births.kill(self._worker)

    async def run(self) -> None:
        """Until `close`, or until the service stops."""
        while not self._is_over():
            try:
                await self._serve()
            except WorkerViolation as violation:
                self._fleet.violations += 1
                self._audit(Entry("violation", violation.name, KIND, detail=violation.text))
                self._say("error", KIND, str(violation))
                await self._wait_after_death()
            except AgentError as error:
                if not self._is_over():
                    self._say("warning", KIND, f"{self.grant.handler}: {error}")
                    await self._wait_after_death()

    def _is_over(self) -> bool:
        return self._closed or self._fleet.winding_up

    async def _wait_after_death(self) -> None:
        now = self._loop.clock.monotonic()
        # Counted with the others, for people; but whoever brings his forwarder down lets nobody else wait.
        self._fleet.restarts[KIND].died(now)
        await self._loop.sleep(self._restarts.died(now))

    async def _serve(self) -> None:
        """One forwarder's life. It ends by itself when it has had enough requests; WorkerDied when it should not."""
        worker = await self._fleet.start(KIND)
        self._worker = worker
        try:
            if self._closed:
                return
            worker.enter("working")
            # It asks one thing at a time.
            worker.may_wait = 1
            worker.channel.send(self._order, (self._listener,))
            while True:
                await self._answer_next(worker)
        except WorkerDied:
            if not _ended_well(worker):
                raise
        except ChannelClosed:
            raise WorkerDied(worker.name, "hears nothing more") from None
        except ProtocolViolation as violation:
            raise WorkerViolation(worker.name, str(violation)) from None
        finally:
            self._worker = None
            self._fleet.births.finish(worker)

    async def _answer_next(self, worker: Worker) -> None:
        message, descriptors = await self._next(worker)
        try:
            await self._pace.wait()
            if isinstance(message, ForwardRefused):
                self._note_refusal(worker, message)
                worker.channel.send(RefusalNoted())
                return
            if not isinstance(message, ForwardRequest):
                raise UnpermittedMessage(f"{type(message).__name__} is no request of a forwarder")
            body = self._judged(message, descriptors)
        finally:
            close_all(descriptors)
        await self._pass_on(worker, message, body)

    async def _next(self, worker: Worker) -> tuple[Message, tuple[int, ...]]:
        while True:
            with suppress(TimedOut):
                return await worker.receive(SILENCE_S)

    def _judged(self, request: ForwardRequest, descriptors: tuple[int, ...]) -> bytes:
        """The body; ProtocolViolation for what the forwarder should not have let through."""
        if not permitted(self.grant, request.method, request.target):
            raise UnpermittedMessage(f"a request that is not within the grant of {self.grant.handler}")
        if not all(is_passed_on(name, value) for name, value in request.headers):
            raise UnpermittedMessage("a header that does not go on")
        if len({name for name, _ in request.headers}) != len(request.headers):
            raise UnpermittedMessage("a header twice")
        if len(descriptors) != 1:
            raise BadDescriptor(f"a request with {len(descriptors)} descriptors")
        return read_sealed(descriptors[0], self.grant.body_bytes)

    async def _pass_on(self, worker: Worker, request: ForwardRequest, body: bytes) -> None:
        outcome = await self._way.send(request, body)
        self.passed += 1
        told = f"{self.grant.handler}: {outcome.problem or f'status {outcome.status}'}, {len(body)} bytes in"
        self._record(worker, request, "failed" if outcome.problem else "done", f"{told}, {len(outcome.body)} out")
        answer = sealed_memfd("answer", outcome.body)
        try:
            worker.channel.send(ForwardAnswer(outcome.status, outcome.content_type[:255]), (answer,))
        finally:
            os.close(answer)

    def _note_refusal(self, worker: Worker, refusal: ForwardRefused) -> None:
        self.refused += 1
        now = self._loop.clock.monotonic()
        if now - self._told_at < REFUSALS_EVERY_S:
            self._untold += 1
            return
        more = f"; {self._untold} others before it" if self._untold else ""
        self._told_at, self._untold = now, 0
        detail = f"{self.grant.handler}: {refusal.status}, {refusal.problem}{more}"
        self._audit(Entry("forwarded", worker.name, KIND, decision="refused", detail=detail))

    def _record(self, worker: Worker, request: ForwardRequest, decision: Decision, detail: str) -> None:
        path = request.target.partition("?")[0]
        asked = f"{request.method} {path}"
        self._audit(Entry("forwarded", worker.name, KIND, request=asked, decision=decision, detail=detail))


def _ended_well(worker: Worker) -> bool:
    return worker.exited.done and worker.exited.result().status == 0
