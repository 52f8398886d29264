# SPDX-License-Identifier: Apache-2.0
"""Owns jobs: a fresh worker for each, verified before it gets the job, replaced when it dies on it.

Runs in the supervisor. No worker gets work before the kernel's view of it agrees with its policy.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from ipc.channel import Received
from ipc.descriptors import close_all
from ipc.errors import AgentError, ChannelClosed
from ipc.messages import CommitFailed, InputRefused, Message, Verification, VerifyWorker, WorkerReady
from ipc.records import Happened, missing_names
from policy.profile import Profile
from supervisor.audit_log_entry import Entry
from supervisor.births import Births, Say
from supervisor.checkers import Checkers
from supervisor.kernel_view import GONE, mismatches
from supervisor.loop import Loop, TimedOut
from supervisor.prepared import Errand, Prepared
from supervisor.restarts import Intensity, Restarts
from supervisor.worker import Worker, WorkerDied, WorkerHung, WorkerViolation

START_PATIENCE_S = 30.0
STACK_PATIENCE_S = 0.5
ATTEMPTS = 4
VERIFIER = "verifier"
# Nobody waits for a job of hours when the service is to stop; whoever has one is made to be ended at any time.
TAKES_LONG_S = 600.0

Final = tuple[type[Message], ...]


class Unavailable(AgentError):
    """A job can't be done: its worker can't be started, or died every time."""


class _Job(msgspec.Struct, frozen=True):
    """As Fleet.do has it; `final` with the refusals."""

    request: Message
    descriptors: tuple[int, ...]
    final: Final
    at_work: Callable[[], None]
    errand: Errand | None


class Fleet:
    """Does jobs by workers; counts what went wrong with them."""

    def __init__(
        self, loop: Loop, profiles: Mapping[str, Profile], births: Births, chance: Callable[[], float], say: Say
    ) -> None:
        """`chance` gives random numbers in [0, 1); `say` takes (level, source, text) for the log."""
        self.restarts: dict[str, Restarts] = {kind: Restarts(Intensity(), chance) for kind in profiles}
        self.violations = 0
        self.winding_up = False
        self.births = births
        self._loop = loop
        self._profiles = profiles
        self._say = say
        # Workers whose job is still to come.
        self.prepared = Prepared(loop, self.start, births, say, self._record)
        self._checkers = Checkers(loop, lambda: self._begin(VERIFIER), self._verify, births.finish)

    async def do(  # noqa: PLR0913 - a job and its conditions, each by its name
        self,
        kind: str,
        request: Message,
        descriptors: tuple[int, ...] = (),
        *,
        final: Final,
        at_work: Callable[[], None] = lambda: None,
        deadline_s: float = float("inf"),
        errand: Errand | None = None,
    ) -> list[Received]:
        """Have a fresh worker of `kind` do one job; returns all its messages, the last being one of `final`.

        One that is prepared is taken first; before it, one that has answered a job of the same `errand` with the first
        of its `final`, if policy lets it do more than one. `at_work` is called each time that a worker has been given
        the job. `deadline_s` is for a job that has less time than the policy of its kind allows.
        A worker that dies on the job is replaced and the job begun anew, at once and then with growing patience.
        Raises Unavailable when that does not help, WorkerHung and WorkerViolation without another try."""
        restarts = self.restarts[kind]
        job = _Job(request, descriptors, (*final, InputRefused, CommitFailed), at_work, errand)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                worker = await self.prepared.take(kind, errand) or await self.start(kind)
                worker.take_on(deadline_s)
                return await self._work(worker, job)
            except WorkerDied as death:
                wait = restarts.died(self._loop.clock.monotonic())
                self._say("warning", kind, f"{death} on the job, attempt {attempt} of {ATTEMPTS}")
                if attempt == ATTEMPTS or restarts.degraded:
                    break
                if wait:
                    await self._loop.sleep(wait)
            except WorkerViolation as violation:
                self._record(kind, violation)
                raise
        raise Unavailable(
            f"{kind} died {ATTEMPTS} times on the same job (last: {self.births.last_exit.get(kind, 'unknown')})"
        )

    async def wind_up(self, patience_s: float) -> None:
        """Begin nothing more; let committers finish, at most for `patience_s`; end at once all others, and those whose
        job may take long."""
        self.winding_up = True
        self.prepared.close()
        self._checkers.drop()
        ends = self._loop.clock.monotonic() + patience_s
        for worker in list(self.births.workers.values()):
            if not worker.profile.changes_machine or worker.deadline_s > TAKES_LONG_S:
                self.births.kill(worker)
        while self.births.workers and self._loop.clock.monotonic() < ends:
            with suppress(TimedOut):
                await self._loop.within(self.births.vacancy, ends - self._loop.clock.monotonic())

    async def _work(self, worker: Worker, job: _Job) -> list[Received]:
        """Give the job to a worker that waits for it, and hear it out."""
        deadline_s = worker.deadline_s
        received: list[Received] = []
        done_well = False
        try:
            worker.channel.send(job.request, job.descriptors)
            job.at_work()
            ends = self._loop.clock.monotonic() + deadline_s
            while not received or not isinstance(received[-1][0], job.final):
                received.append(await worker.receive(ends - self._loop.clock.monotonic()))
            done_well = isinstance(received[-1][0], job.final[0])
        except ChannelClosed:
            close_all([descriptor for _, attached in received for descriptor in attached])
            raise WorkerDied(worker.name, "took no work") from None
        except TimedOut:
            close_all([descriptor for _, attached in received for descriptor in attached])
            await self._end_hung(worker)
            raise WorkerHung(f"{worker.name} did not finish within {deadline_s:g} s: killed") from None
        except AgentError:
            close_all([descriptor for _, attached in received for descriptor in attached])
            raise
        finally:
            if job.errand is None or not done_well:
                self.births.finish(worker)
            else:
                self.prepared.keep(worker, job.errand)
        return received

    def _record(self, kind: str, violation: WorkerViolation) -> None:
        self.violations += 1
        self.births.audit(Entry("violation", violation.name, kind, detail=violation.text))
        self._say("error", kind, str(violation))

    async def start(self, kind: str) -> Worker:
        """A worker of `kind` that is confined, verified and waits for its one request."""
        checker = None if kind == VERIFIER else await self._checkers.engage()
        try:
            worker = await self._begin(kind)
            try:
                await self._ready(worker)
                if checker is not None:
                    await self._checkers.verify(worker, checker)
            except AgentError:
                self.births.finish(worker)
                raise
        finally:
            if checker is not None:
                self._checkers.leave(checker)
        worker.enter("ready")
        return worker

    async def _begin(self, kind: str) -> Worker:
        """A new worker as soon as policy allows one more of `kind`; Unavailable after a while."""
        profile = self._profiles[kind]
        if self.winding_up:
            raise Unavailable("the service is stopping")
        ends = self._loop.clock.monotonic() + START_PATIENCE_S
        while True:
            instance = self.births.free_instance(profile)
            if instance is not None:
                return self._try_begin(profile, instance)
            self.prepared.make_room(kind)
            try:
                await self._loop.within(self.births.vacancy, ends - self._loop.clock.monotonic())
            except TimedOut:
                allowed = profile.lifetime.instances
                raise Unavailable(f"all {allowed} workers of kind {kind} that policy allows stay busy") from None

    def _try_begin(self, profile: Profile, instance: int) -> Worker:
        try:
            return self.births.begin(profile, instance)
        except OSError as error:
            raise Unavailable(f"a worker of kind {profile.kind} can't be begun: {error}") from None

    async def _ready(self, worker: Worker) -> None:
        """Wait for its first word, then compare what anyone may read of it with the policy."""
        try:
            event = await self._loop.within(worker.started, START_PATIENCE_S)
            if event.what is Happened.REFUSED:
                raise Unavailable(f"the spawner refused {event.text}")
            message, descriptors = await worker.receive(START_PATIENCE_S)
        except TimedOut:
            await self._end_hung(worker)
            raise WorkerHung(f"{worker.name} was not ready within {START_PATIENCE_S:g} s: killed") from None
        if not isinstance(message, WorkerReady) or descriptors:
            raise WorkerViolation(worker.name, f"began with {type(message).__name__}")
        self._judge(worker, mismatches(worker.pid, worker.uid, worker.profile))

    async def _verify(self, worker: Worker, checker: Worker) -> None:
        if checker.state == "starting":
            await self._ready(checker)
            checker.enter("ready")
        request = VerifyWorker(
            worker.kind, worker.pid, worker.uid, missing_names(worker.missing), companion=worker.companion
        )
        try:
            checker.channel.send(request, (worker.pidfd,))
        except ChannelClosed:
            raise WorkerDied(checker.name, "took no work") from None
        deadline_s = self._profiles[VERIFIER].lifetime.deadline_s
        try:
            verdict, _ = await checker.receive(deadline_s)
        except TimedOut:
            await self._end_hung(checker)
            # Not the fault of the one that was looked at: it dies unused, and the job is begun anew.
            raise WorkerDied(checker.name, f"did not finish within {deadline_s:g} s and was killed") from None
        if not isinstance(verdict, Verification):
            raise WorkerViolation(checker.name, f"answered {type(verdict).__name__}")
        self._judge(worker, list(verdict.mismatches))
        seen = f"{verdict.threads} threads, as its policy says"
        self.births.audit(Entry("worker-verified", worker.name, worker.kind, worker.pid, worker.uid, detail=seen))

    def _judge(self, worker: Worker, wrong: list[str]) -> None:
        """WorkerViolation for a worker that is not as its policy says, WorkerDied for one that is no more."""
        if GONE in wrong:
            raise WorkerDied(worker.name, "ended while it was looked at")
        if wrong:
            raise WorkerViolation(worker.name, f"is not as its policy says: {'; '.join(wrong[:8])}")

    async def _end_hung(self, worker: Worker) -> None:
        """Have it write its stack to the log, then kill it."""
        self.births.audit(Entry("worker-hung", worker.name, worker.kind, worker.pid, worker.uid, detail=worker.state))
        self.births.ask_for_stack(worker)
        try:
            await self._loop.within(worker.exited, STACK_PATIENCE_S)
        except TimedOut:
            self.births.kill(worker)
