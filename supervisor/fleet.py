# SPDX-License-Identifier: Apache-2.0
"""Owns all workers: asks the spawner for them, has them verified, gives them one job, replaces those that die.

Runs in the supervisor. No worker gets work before the kernel's view of it agrees with its policy.
"""

import os
import socket
from collections.abc import Callable, Mapping

import zmq

from ipc.channel import Channel, PacketChannel, Received, listen, packet_pair
from ipc.descriptors import close_all, receive_packet, send_packet
from ipc.errors import AgentError, ChannelClosed, ProtocolViolation
from ipc.messages import CommitFailed, InputRefused, Message, Verification, VerifyWorker, WorkerReady
from ipc.records import EVENT_BYTES, Event, Happened, Op, Order, missing_names, pack_order, unpack_event
from policy.profile import Profile
from supervisor.dispatch import Table
from supervisor.kernel_view import mismatches
from supervisor.layout import Layout
from supervisor.loop import Loop, Promise, TimedOut
from supervisor.restarts import Intensity, Restarts
from supervisor.worker import LogPipe, Worker, WorkerDied, WorkerHung, WorkerViolation, exit_text

START_PATIENCE_S = 10.0
STACK_PATIENCE_S = 0.5
ATTEMPTS = 4

Final = tuple[type[Message], ...]
Say = Callable[[str, str, str], None]


class Unavailable(AgentError):
    """A job can't be done: its worker can't be started, or died every time."""


class Fleet:
    """Live workers by serial number, and what is known of their kinds."""

    def __init__(
        self,
        loop: Loop,
        table: Table,
        profiles: Mapping[str, Profile],
        spawner: socket.socket,
        layout: Layout,
        chance: Callable[[], float],
        say: Say,
    ) -> None:
        """`say` takes (level, source, text) for the log; `chance` gives random numbers in [0, 1)."""
        self.workers: dict[int, Worker] = {}
        self.restarts: dict[str, Restarts] = {kind: Restarts(Intensity(), chance) for kind in profiles}
        self.last_exit: dict[str, str] = {}
        self.violations = 0
        self.missing: set[str] = set()
        self._loop = loop
        self._table = table
        self._profiles = profiles
        self._spawner = spawner
        self._layout = layout
        self._say = say
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._serial = 0
        self._vacancy: Promise[None] = Promise()
        loop.watch(spawner.fileno(), self._take_event)

    async def do(self, kind: str, request: Message, descriptors: tuple[int, ...] = (), *, final: Final) -> list[Received]:
        """Have a fresh worker of `kind` do one job; returns all its messages, the last being one of `final`.

        A worker that dies on the job is replaced and the job begun anew, at once and then with growing patience.
        Raises Unavailable when that does not help, WorkerHung and WorkerViolation without another try."""
        restarts = self.restarts[kind]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._attempt(kind, request, descriptors, (*final, InputRefused, CommitFailed))
            except WorkerDied as death:
                wait = restarts.died(self._loop.clock.monotonic())
                self._say("warning", kind, f"{death} on the job, attempt {attempt} of {ATTEMPTS}")
                if attempt == ATTEMPTS or restarts.degraded:
                    break
                if wait:
                    await self._loop.sleep(wait)
            except WorkerViolation as violation:
                self.violations += 1
                self._say("error", kind, str(violation))
                raise
        raise Unavailable(f"{kind} died {ATTEMPTS} times on the same job (last: {self.last_exit.get(kind, 'unknown')})")

    def kill(self, worker: Worker) -> None:
        """End one worker at once; who waits for it learns that it died."""
        self._order(Order(Op.KILL, worker.serial))

    def stop(self) -> None:
        """End every worker now."""
        for serial in self.workers:
            self._order(Order(Op.KILL, serial))

    async def _attempt(
        self, kind: str, request: Message, descriptors: tuple[int, ...], final: Final
    ) -> list[Received]:
        deadline_s = self._profiles[kind].lifetime.deadline_s
        worker = await self.start(kind)
        received: list[Received] = []
        try:
            worker.enter("working")
            worker.channel.send(request, descriptors)
            ends = self._loop.clock.monotonic() + deadline_s
            while not received or not isinstance(received[-1][0], final):
                received.append(await worker.receive(ends - self._loop.clock.monotonic()))
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
            self._finish(worker)
        return received

    async def start(self, kind: str) -> Worker:
        """A worker of `kind` that is confined, verified and waits for its one request."""
        checker = None if kind == "verifier" else self._begin("verifier", await self._free_instance("verifier"))
        try:
            worker = self._begin(kind, await self._free_instance(kind))
        except AgentError:
            if checker is not None:
                self._finish(checker)
            raise
        try:
            await self._ready(worker)
            if checker is not None:
                await self._verify(worker, checker)
        except AgentError:
            self._finish(worker)
            raise
        finally:
            if checker is not None:
                self._finish(checker)
        worker.enter("ready")
        return worker

    def _begin(self, kind: str, instance: int) -> Worker:
        """Send the order for a new worker; nothing has answered yet."""
        profile = self._profiles[kind]
        self._serial += 1
        channel, side = self._channel(profile, instance)
        log_read, log_write = os.pipe()
        try:
            self._order(Order(Op.START, self._serial, instance, kind), (side.fileno(), log_write))
        finally:
            side.close()
            os.close(log_write)
        worker = Worker(self._loop, self._table, kind, instance, self._serial, channel)
        LogPipe(self._loop, log_read, lambda line: self._say("info", worker.name, line))
        self.workers[worker.serial] = worker
        return worker

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
            raise self._violation(worker, [f"its first message was {type(message).__name__}"])
        profile = self._profiles[worker.kind]
        worker.uid = profile.identity.uid + (worker.instance if profile.identity.uid else 0)
        wrong = mismatches(worker.pid, worker.uid, profile)
        if wrong:
            raise self._violation(worker, wrong)

    async def _verify(self, worker: Worker, checker: Worker) -> None:
        await self._ready(checker)
        checker.channel.send(VerifyWorker(worker.kind, worker.pid, worker.uid, missing_names(worker.missing)), (worker.pidfd,))
        verdict, _ = await checker.receive(self._profiles["verifier"].lifetime.deadline_s)
        if not isinstance(verdict, Verification) or verdict.mismatches:
            wrong = list(verdict.mismatches) if isinstance(verdict, Verification) else ["not verified"]
            if worker.exited.done:
                raise WorkerDied(worker.name, exit_text(worker.exited.result().status))
            raise self._violation(worker, wrong)

    def _violation(self, worker: Worker, wrong: list[str]) -> WorkerViolation:
        return WorkerViolation(f"{worker.name} is not as its policy says: {'; '.join(wrong[:8])}")

    async def _end_hung(self, worker: Worker) -> None:
        """Have it write its stack to the log, then kill it."""
        self._order(Order(Op.ABORT, worker.serial))
        try:
            await self._loop.within(worker.exited, STACK_PATIENCE_S)
        except TimedOut:
            self._order(Order(Op.KILL, worker.serial))

    def _finish(self, worker: Worker) -> None:
        """Kill what still lives of it, and let go of it once its exit is known."""
        if worker.serial not in self.workers or worker.state == "exited":
            return
        worker.enter("exited")
        if not worker.exited.done:
            self._order(Order(Op.KILL, worker.serial))
        worker.exited.when_done(lambda: self._forget(worker))

    def _forget(self, worker: Worker) -> None:
        self.workers.pop(worker.serial, None)
        worker.release()
        self._remove_folder(self._layout.channel_folder(worker.kind, worker.instance))
        self._vacancy.fulfil(None)

    async def _free_instance(self, kind: str) -> int:
        """The lowest instance number that is free, waited for while policy allows no more; Unavailable after a while."""
        allowed = self._profiles[kind].lifetime.instances
        ends = self._loop.clock.monotonic() + START_PATIENCE_S
        while True:
            taken = {worker.instance for worker in self.workers.values() if worker.kind == kind}
            free = next((number for number in range(allowed) if number not in taken), None)
            if free is not None:
                return free
            self._vacancy = self._vacancy if not self._vacancy.done else Promise()
            try:
                await self._loop.within(self._vacancy, ends - self._loop.clock.monotonic())
            except TimedOut:
                raise Unavailable(f"all {allowed} workers of kind {kind} that policy allows stay busy") from None

    def _channel(self, profile: Profile, instance: int) -> tuple[Channel, socket.socket]:
        """Our end of the new worker's channel, and the packet socket that goes to it."""
        ours, theirs = packet_pair()
        if profile.transport == "packet":
            return PacketChannel(ours), theirs
        uid = profile.identity.uid + instance
        folder = self._layout.channel_folder(profile.kind, instance)
        self._remove_folder(folder)
        os.mkdir(folder, 0o700)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        path = f"{folder}/s"
        listener.bind(path)
        os.chmod(path, 0o600)
        os.chown(path, uid, uid)
        os.chown(folder, uid, uid)
        listener.listen(1)
        return listen(self._context, path, listener, ours, uid), theirs

    def _remove_folder(self, folder: str) -> None:
        """Take the folder back first: without CAP_DAC_OVERRIDE root may not look into another uid's 0700 folder."""
        try:
            os.chown(folder, 0, 0)
            for name in os.listdir(folder):
                os.unlink(f"{folder}/{name}")
            os.rmdir(folder)
        except FileNotFoundError:
            return

    def _order(self, order: Order, descriptors: tuple[int, ...] = ()) -> None:
        send_packet(self._spawner, pack_order(order), descriptors)

    def _take_event(self) -> None:
        """One record of the spawner. Its silence means its death, and that ends this process by the kernel's hand."""
        try:
            packet, descriptors = receive_packet(self._spawner, EVENT_BYTES + 1)
            event = unpack_event(packet)
        except (ChannelClosed, ProtocolViolation) as error:
            self._say("error", "supervisor", f"spawner: {error}")
            raise SystemExit(1) from None
        worker = self.workers.get(event.serial)
        if worker is None:
            close_all(descriptors)
        elif event.what is Happened.EXITED:
            close_all(descriptors)
            self._note_exit(worker, event)
        else:
            self._note_start(worker, event, descriptors)

    def _note_start(self, worker: Worker, event: Event, descriptors: tuple[int, ...]) -> None:
        if event.what is Happened.STARTED and len(descriptors) == 1:
            worker.pid, worker.pidfd, worker.missing = event.pid, descriptors[0], event.missing
            self.missing.update(missing_names(event.missing))
        else:
            close_all(descriptors)
        worker.started.fulfil(event)
        if event.what is Happened.REFUSED:
            worker.exited.fulfil(event)

    def _note_exit(self, worker: Worker, event: Event) -> None:
        if worker.state != "exited":
            self.last_exit[worker.kind] = exit_text(event.status)
        worker.exited.fulfil(event)

