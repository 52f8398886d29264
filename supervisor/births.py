# SPDX-License-Identifier: Apache-2.0
"""Owns the supervisor's end of the spawner's record socket: workers begun, signalled, and heard of when they end.

Runs in the supervisor. It gives each new worker its channel, its log pipe and its uid's socket folder, and takes them
back; what a worker is asked and whether it is trusted is not its affair.
"""

import os
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
from supervisor.appetite import Appetite
from supervisor.dispatch import Table
from supervisor.exits import exit_text
from supervisor.layout import Layout
from supervisor.loop import Loop, Promise
from supervisor.worker import LogPipe, Worker

Say = Callable[[str, str, str], None]


class Births:
    """Live workers by serial number; `missing` collects the mechanisms that the spawner could not give them."""

    def __init__(self, loop: Loop, table: Table, spawner: socket.socket, layout: Layout, say: Say) -> None:
        """`say` takes (level, source, text) for the log."""
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
        self._serial = 0
        loop.watch(spawner.fileno(), self._take_event)
        self._sweep()

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
        worker = Worker(self._loop, self._table, profile, instance, self._serial, channel)
        LogPipe(self._loop, log_read, lambda line: self._say("info", worker.name, line))
        self.workers[worker.serial] = worker
        self._appetite.watch(worker)
        return worker

    def kill(self, worker: Worker) -> None:
        """End the worker and all that it started."""
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
        self._remove_folder(self._layout.channel_folder(worker.kind, worker.instance))
        vacancy, self.vacancy = self.vacancy, Promise()
        vacancy.fulfil(None)

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
        return self._listen(path, listener, ours, uid), theirs

    @cached_property
    def _listen(self) -> Callable[[str, socket.socket, socket.socket, int], Channel]:
        """What makes our end of a ZeroMQ channel. ZeroMQ is loaded for the first such worker: those that come before
        it, the maker of the host keys above all, are not kept waiting."""
        pair = import_module("ipc.pair")
        return partial(pair.listen, pair.context())

    def _sweep(self) -> None:
        """What an earlier life of this process left: its workers died with it."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self._layout.channels):
                self._remove_folder(f"{self._layout.channels}/{name}")

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
