# SPDX-License-Identifier: Apache-2.0
"""Owns the spawner's loop: carries out the supervisor's fixed records, reaps, and keeps the supervisor alive.

Runs as the spawner, loaded while the supervisor is already starting. It never opens a socket to anywhere, never reads
what a worker says, and keeps no secret.
"""

import gc
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from importlib import import_module

from ipc.descriptors import close_all, receive_packet, send_packet
from ipc.errors import AgentError, ChannelClosed, ProtocolViolation
from ipc.messages import VOCABULARIES
from ipc.records import ORDER_BYTES, Event, Happened, Op, Order, pack_event, unpack_order
from policy.profile import CompiledPolicy
from supervisor.exits import EXIT_ANEW, EXIT_CONFIG, exit_text
from supervisor.jail import cgroup, heap
from supervisor.jail.confine import missing_mechanisms
from supervisor.layout import Layout
from supervisor.lean import import_pathlib, import_threading, import_zmq, loaded
from supervisor.restarts import Intensity, Restarts
from supervisor.spawner.carried import Carried, carry
from supervisor.spawner.children import Children, Refused
from supervisor.spawner.resident import Resident, say

STOP_PATIENCE_S = 8.0
LAST_MOMENTS_S = 1.0
# How often the groups of the dead are tried again that the kernel was not done with.
DYING_MS = 500
# What workers import, so that a fork finds it loaded and frozen: measured, it was most of a worker's start. The
# provisioning worker brings OpenSSL with it and imports its own.
COMMON_IMPORTS = (
    "msgpack",
    "pyexpat",
    "base64",
    "subprocess",
    "ipc.codec",
    "ipc.channel",
    "workers.runtime",
)
# What one kind or another loads, within its own process, without having to open a file for it.
_READERS = (
    "answer", "artifacts_profile", "blocks", "certificate_file", "channel_key", "event_file", "event_record",
    "extension_policy",
    "extensions_config", "goal_state", "handler_manifest", "handlers", "heartbeat", "hosting_environment",
    "instance_metadata", "iso", "json_document", "key_status", "ovf", "package_manifest", "plugin_versions",
    "redaction", "remote_access", "settings_bundle", "status_file", "told", "udf", "udf_files", "udf_tags",
    "udf_volume", "versions", "vm_settings", "xml",
)  # fmt: skip
_COMMITTERS = ("atomic_file", "commit", "host_keys", "public_key", "shortage", "tools")
CARRIED = (
    *VOCABULARIES,
    "ipc.pair",
    "policy.egress.ebtables",
    "policy.egress.iptables",
    "supervisor.kernel_view",
    "supervisor.verifier",
    "workers.companion",
    "workers.parser.bounds",
    "workers.parser.main",
    *(f"workers.parser.{name}" for name in _READERS),
    *(f"workers.committers.{name}" for name in _COMMITTERS),
    *(f"workers.committers.egress_{name}" for name in ("chains", "frames", "log")),
    *(f"workers.opener.{name}" for name in ("certificate", "der", "main", "openssl", "pem", "public_key", "signature")),
    *(f"workers.programs.{name}" for name in ("main", "openssl", "runner", "serving")),
)

Begin = Callable[..., Resident]


class Service:
    """The spawner's state: one supervisor, its children, and what wakes it."""

    def __init__(
        self,
        policy: CompiledPolicy,
        tree: cgroup.Tree,
        begin: Begin,
        resident: Resident,
    ) -> None:
        """`resident` runs already; `begin` starts it again, and `tree` is where workers get their cgroups."""
        self._begin = begin
        self._resident = resident
        self._restarts = Restarts(Intensity(), random.random)  # noqa: S311 - spreads restarts, guards nothing
        self._last_exit = ""
        self._renewed = False
        self._stopping = False
        self._wake = _signal_pipe()
        import_pathlib()
        import_threading()
        import_zmq()
        for name in COMMON_IMPORTS:
            import_module(name)
        sys.meta_path.insert(0, Carried(carry(CARRIED)))
        loaded()
        heap.give_back()
        gc.freeze()
        gc.disable()
        self._children = Children(policy, Layout(), tree, missing_mechanisms())

    def run(self) -> int:
        """Serve until told to stop or the supervisor can't be kept alive; the exit status."""
        status = self._serve()
        self._resident.group.remove()
        return status

    def _serve(self) -> int:
        while True:
            ready = self._wait()
            if self._wake in ready:
                self._take_signal()
            for pidfd in self._children.pidfds & ready:
                event = self._children.bury(pidfd)
                if event is not None:
                    self._tell(event)
            if self._resident.channel.fileno() in ready:
                self._obey()
            if self._resident.pidfd in ready:
                status = self._after_death()
                if status is not None:
                    return status

    def _after_death(self) -> int | None:
        """The supervisor is gone: so are its workers, and then it is started again; else the exit status."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        status = self._resident.reap()
        code = os.waitstatus_to_exitcode(status)
        self._children.kill_all()
        if self._stopping:
            return 0
        if code == EXIT_CONFIG:
            return EXIT_CONFIG
        if code == EXIT_ANEW and not self._renewed:
            self._renewed = True
            self._resident = self._begin(self._restarts.total, self._last_exit, anew=True)
            return None
        return self._restart(code, status)

    def _wait(self) -> set[int]:
        poller = select.poll()
        for descriptor in (self._wake, self._resident.pidfd, *self._children.pidfds):
            poller.register(descriptor, select.POLLIN)
        if not self._resident.deaf:
            poller.register(self._resident.channel.fileno(), select.POLLIN)
        patience_ms = None if self._children.remove_groups() else DYING_MS
        return {descriptor for descriptor, _ in poller.poll(patience_ms)}

    def _take_signal(self) -> None:
        for number in os.read(self._wake, 64):
            if number == signal.SIGALRM:
                self._resident.kill()
            elif number in (signal.SIGTERM, signal.SIGINT) and not self._stopping:
                self._stopping = True
                self._resident.ask_to_stop()
                signal.setitimer(signal.ITIMER_REAL, STOP_PATIENCE_S)

    def _obey(self) -> None:
        """Carry out one record. A supervisor that sends anything else is broken: it is killed and started anew."""
        try:
            packet, descriptors = receive_packet(self._resident.channel, ORDER_BYTES + 1)
        except ChannelClosed:
            # It is ending, most likely by itself, and then its own exit status is the one to hear of.
            self._resident.deaf = True
            signal.setitimer(signal.ITIMER_REAL, LAST_MOMENTS_S)
            return
        except ProtocolViolation as error:
            self._punish(error)
            return
        try:
            order = unpack_order(packet)
            if order.op is Op.START:
                self._start(order, descriptors)
            else:
                self._children.signal(order)
        except ProtocolViolation as error:
            self._punish(error)
        finally:
            close_all(descriptors)

    def _start(self, order: Order, descriptors: tuple[int, ...]) -> None:
        try:
            event, pidfd = self._children.start(order, descriptors)
        except (Refused, AgentError, OSError) as error:
            text = f"{order.kind}: {error}"
            self._tell(Event(Happened.REFUSED, order.serial, missing=self._children.missing, text=text))
            return
        self._tell(event, (pidfd,))

    def _tell(self, event: Event, descriptors: tuple[int, ...] = ()) -> None:
        try:
            send_packet(self._resident.channel, pack_event(event), descriptors)
        except ChannelClosed:
            self._resident.kill()

    def _punish(self, error: ProtocolViolation) -> None:
        say(f"the supervisor sent no valid order ({error}): it is restarted")
        self._resident.kill()

    def _restart(self, code: int, status: int) -> int | None:
        """Start the supervisor again after its death; the exit status when that is not to be."""
        wait = self._restarts.died(time.monotonic())
        if self._restarts.degraded:
            say(f"the supervisor ended with {code} and keeps dying: giving up, the service manager decides")
            return 1
        say(f"the supervisor ended with {code}: starting it again" + (f" in {wait:.1f} s" if wait else ""))
        if wait and select.select([self._wake], [], [], wait)[0]:
            # A signal meanwhile: only one that stops the service ever comes here.
            return 0
        self._last_exit = exit_text(status)
        self._resident = self._begin(self._restarts.total, self._last_exit)
        return None


def _signal_pipe() -> int:
    """A descriptor that has a byte for every signal that this process acts on."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.set_wakeup_fd(writer.detach())
    return reader.detach()
