# SPDX-License-Identifier: Apache-2.0
"""Owns the supervisor's end of the spawner's record socket: workers begun, signalled, and heard of when they end.

Runs in the supervisor. It makes each new worker its channel and its log pipe; what a worker is asked
and whether it is trusted is not its affair.
"""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from importlib import import_module

from ipc.channel import Channel, PacketChannel
from ipc.descriptors import close_all, packet_pair, receive_packet, send_packet
from ipc.errors import ChannelClosed, ProtocolViolation
from ipc.records import EVENT_BYTES, Event, Happened, Op, Order, missing_names, pack_order, unpack_event
from policy.profile import Profile
from supervisor import lean
from supervisor.appetite import Appetite
from supervisor.audit_log_entry import Audit, Entry, unrecorded
from supervisor.cut_off import CutOff
from supervisor.dispatch import Table
from supervisor.exits import exit_text
from supervisor.layout import Layout
from supervisor.loop import Loop, Promise
from supervisor.worker import LogPipe, Worker

Say = Callable[[str, str, str], None]


class Births:
    """Live workers by serial number; `missing` collects the mechanisms that the spawner could not give them."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it works with, each given once, in one place
        self, loop: Loop, table: Table, spawner: socket.socket, layout: Layout, say: Say, audit: Audit = unrecorded
    ) -> None:
        """`say` takes (level, source, text) for the log; `audit` is told of every start and end."""
        self.audit = audit
        self.workers: dict[int, Worker] = {}
        self.missing: set[str] = set()
        self.last_exit: dict[str, str] = {}
        self.vacancy: Promise[None] = Promise()
        self._loop = loop
        self._table = table
        self._spawner = spawner
        self._layout = layout
        self._say = say
        self._appetite = Appetite(loop, self.workers)
        self._cut_off = CutOff(loop, self.workers)
        self._serial = 0
        loop.watch(spawner.fileno(), self._take_event)

    def free_instance(self, profile: Profile) -> int | None:
        """The lowest instance number of the kind that no live worker has; None when policy allows no more."""
        taken = {worker.instance for worker in self.workers.values() if worker.kind == profile.kind}
        return next((number for number in range(profile.lifetime.instances) if number not in taken), None)

    def begin(self, profile: Profile, instance: int) -> Worker:
        """Send the order for a new worker; nothing has answered yet."""
        self._serial += 1
        channel, side = self._channel(profile, instance)
        log_read, log_write = os.pipe()
        try:
            self._order(Order(Op.START, self._serial, instance, profile.kind), (side.fileno(), log_write))
        except ChannelClosed:
            os.close(log_read)
            channel.close()
            raise
        finally:
            side.close()
            os.close(log_write)
        worker = Worker(self._loop, self._table, profile, instance, self._serial, channel, self.audit)
        LogPipe(self._loop, log_read, lambda line: self._say("info", worker.name, line))
        self.workers[worker.serial] = worker
        self._appetite.watch(worker)
        self._cut_off.watch(worker)
        return worker

    def kill(self, worker: Worker) -> None:
        """End the worker and all that it started."""
        worker.is_ended_by_us = True
        self._order(Order(Op.KILL, worker.serial))

    def ask_for_stack(self, worker: Worker) -> None:
        """Have it write its stack to its log; it may end of that."""
        self._order(Order(Op.ABORT, worker.serial))

    def finish(self, worker: Worker) -> None:
        """Kill what still lives of it, and let go of it once its exit is known."""
        if worker.state == "exited":
            return
        worker.enter("exited")
        if not worker.exited.done:
            self.kill(worker)
        worker.exited.when_done(lambda: self._forget(worker))

    def _forget(self, worker: Worker) -> None:
        self.workers.pop(worker.serial, None)
        worker.release()
        vacancy, self.vacancy = self.vacancy, Promise()
        vacancy.fulfil(None)

    def _channel(self, profile: Profile, instance: int) -> tuple[Channel, socket.socket]:
        """Our end of the new worker's channel, and the packet socket that goes to it."""
        ours, theirs = packet_pair()
        if profile.transport == "packet":
            return PacketChannel(ours), theirs
        uid = profile.identity.uid + instance
        # The spawner gives both to the worker's uid, and takes them away when it ends.
        folder = self._layout.channel_folder(profile.kind, instance)
        # The spawner refused the last one, or an earlier life of this process ended in between.
        with suppress(FileNotFoundError):
            os.unlink(f"{folder}/s")
        with suppress(FileNotFoundError):
            os.rmdir(folder)
        os.mkdir(folder, 0o700)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        path = f"{folder}/s"
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(1)
        return self._listen(path, listener, ours, uid), theirs

    @cached_property
    def _listen(self) -> Callable[[str, socket.socket, socket.socket, int], Channel]:
        """What makes our end of a ZeroMQ channel. ZeroMQ is loaded for the first such worker: those that come before
        it, the maker of the host keys above all, are not kept waiting."""
        lean.import_zmq()
        pair = import_module("ipc.pair")
        return partial(pair.listen, pair.context())

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
        # Also of a worker that is refused: what it is refused for must be seen.
        self.missing.update(missing_names(event.missing))
        if event.what is Happened.STARTED and len(descriptors) == 1:
            worker.pid, worker.pidfd, worker.missing = event.pid, descriptors[0], event.missing
            worker.companion = event.companion
            missing = missing_names(event.missing)
            who = (worker.name, worker.kind, worker.pid, worker.uid)
            runs = f"pid {event.companion} runs programs for it" if event.companion else ""
            self.audit(Entry("worker-start", *who, missing=missing, detail=runs))
        else:
            close_all(descriptors)
        worker.started.fulfil(event)
        if event.what is Happened.REFUSED:
            self.audit(Entry("worker-refused", worker.name, worker.kind, detail=event.text))
            worker.exited.fulfil(event)

    def _note_exit(self, worker: Worker, event: Event) -> None:
        ended = exit_text(event.status)
        if worker.state != "exited":
            self.last_exit[worker.kind] = ended
        if worker.is_ended_by_us and event.status == signal.SIGKILL:
            ended = "was ended by the agent"
        who, told = (worker.name, worker.kind, worker.pid, worker.uid), f"{ended}; {event.text}".removesuffix("; ")
        self.audit(Entry("worker-exit", *who, detail=told, cpu_us=event.cpu_us, peak_kib=event.peak_kib))
        if event.text:
            self._say("warning", worker.name, event.text)
        worker.exited.fulfil(event)
