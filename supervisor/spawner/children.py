# SPDX-License-Identifier: Apache-2.0
"""Owns the spawner's table of live workers: starts, kills and reaps them within the limits of their policies.

Runs in the spawner. It enforces what policy says by itself: an order from a hijacked supervisor gets no more.
"""

import os
import signal
from contextlib import suppress

import msgspec

from ipc.descriptors import packet_pair
from ipc.errors import AgentError
from ipc.records import Event, Happened, Op, Order, missing_mask
from policy.level import TELLING
from policy.profile import Compiled, CompiledPolicy
from supervisor.exits import exit_text
from supervisor.jail import namespaces
from supervisor.jail.cgroup import Group, Tree
from supervisor.layout import Layout
from supervisor.spawner import channel_folder
from supervisor.spawner.child import Birth
from supervisor.spawner.process import MOST_US, Exit, Process, begin

MAX_CHILDREN = 64
NOT_ENDED = Exit(0, 0, 0)


class Refused(AgentError):
    """The order asks for what policy or the machine does not give; nothing was started."""


class Child(msgspec.Struct):
    """One worker with its companion, if it has one: `processes` are those that live, the worker first while it does.

    They begin and end together. `ended` is the worker's end, or that of a companion that ended untold and
    took the worker with it: `text` says so."""

    serial: int
    kind: str
    instance: int
    pid: int
    processes: list[Process]
    ended: Exit = NOT_ENDED
    cpu_us: int = 0
    peak_kib: int = 0
    text: str = ""
    is_killed: bool = False

    def kill(self) -> None:
        """End both, and all that they started."""
        self.is_killed = True
        for process in self.processes:
            process.kill()

    def bury(self, process: Process) -> bool:
        """Reap one that has ended, and end the other one, but no worker whose companion ended as it should: because
        that worker let go of it. Whether its group is gone, too."""
        self.processes.remove(process)
        end = process.reap()
        self._end_with(process, end)
        return process.group.remove(0)

    def _end_with(self, process: Process, end: Exit) -> None:
        """The others, after that one's end."""
        self.cpu_us += end.cpu_us
        self.peak_kib = max(self.peak_kib, end.peak_kib)
        if process.pid == self.pid:
            self.ended = self.ended if self.text else end
        elif end.status == 0:
            return
        elif not (self.is_killed and end.status == signal.SIGKILL):
            self.ended = end
            self.text = f"its companion {process.name} {exit_text(end.status)}: both are ended"
        self.kill()

    def event(self) -> Event:
        """What the supervisor is told once both are gone."""
        return Event(
            Happened.EXITED,
            self.serial,
            self.pid,
            self.ended.status,
            cpu_us=min(self.cpu_us, MOST_US),
            peak_kib=self.peak_kib,
            text=self.text,
        )


class Children:
    """All live workers, by serial number."""

    def __init__(
        self,
        policy: CompiledPolicy,
        layout: Layout,
        tree: Tree,
        missing: frozenset[str],
    ) -> None:
        """`missing` are the mechanisms that this machine lacks (ipc.records.MECHANISMS). Without those that `policy`
        requires no worker is started, but for those that tell of it."""
        self._policies = policy.by_kind
        self._layout = layout
        self._tree = tree
        self._missing = missing
        self._lacking = tuple(name for name in policy.required if name in {*missing, *tree.missing})
        self._grants = policy.wireserver
        self._live: dict[int, Child] = {}
        self._dying: dict[str, Group] = {}
        self._self = os.pidfd_open(os.getpid())
        self._own_pid_namespace = namespaces.own_pid_namespace()

    @property
    def missing(self) -> int:
        """What this machine lacks, as a record has it."""
        return missing_mask((*self._missing, *self._tree.missing))

    @property
    def pidfds(self) -> frozenset[int]:
        """The pidfd of every live process, companions' among them."""
        return frozenset(process.pidfd for child in self._live.values() for process in child.processes)

    def start(self, order: Order, descriptors: tuple[int, ...]) -> tuple[Event, int]:
        """Start a worker, and its companion before it; returns the event and the worker's pidfd.

        Refused when policy forbids it, OSError from the kernel; then nothing has been started."""
        compiled = self._permitted(order, descriptors)
        side, log = descriptors
        if not compiled.profile.programs:
            processes = [self._begin(compiled, order.instance, side, log)]
        else:
            processes = self._begin_pair(compiled, order.instance, side, log)
        worker, *companions = processes
        self._live[order.serial] = Child(order.serial, order.kind, order.instance, worker.pid, processes)
        event = Event(
            Happened.STARTED,
            order.serial,
            worker.pid,
            missing=missing_mask((*self._missing, *worker.group.missing)),
            companion=companions[0].pid if companions else 0,
        )
        return event, worker.pidfd

    def signal(self, order: Order) -> None:
        """Kill a worker and all that it started, or ask it for its stack first. Nothing happens if it is gone."""
        child = self._live.get(order.serial)
        if child is None:
            return
        if order.op is not Op.ABORT:
            child.kill()
        elif child.processes[0].pid == child.pid:
            signal.pidfd_send_signal(child.processes[0].pidfd, signal.SIGABRT)

    def bury(self, pidfd: int) -> Event | None:
        """Reap the process whose `pidfd` is readable; the end of its worker once its companion is gone, too."""
        child, process = next(
            (child, process) for child in self._live.values() for process in child.processes if process.pidfd == pidfd
        )
        if not child.bury(process):
            self._dying[process.name] = process.group
        if child.processes:
            return None
        del self._live[child.serial]
        # What can't go is met, and told, by the next worker of that name.
        with suppress(OSError):
            channel_folder.take_away(self._layout.channel_folder(child.kind, child.instance))
        return child.event()

    def remove_groups(self) -> bool:
        """Remove the groups of those that are reaped; False while something in one is still dying (call again)."""
        self._dying = {name: group for name, group in self._dying.items() if not group.remove(0)}
        return not self._dying

    def kill_all(self) -> None:
        """End every worker and wait for each: the supervisor that they belonged to is gone."""
        for child in self._live.values():
            child.kill()
        for pidfd in self.pidfds:
            self.bury(pidfd)

    def _begin_pair(self, compiled: Compiled, instance: int, side: int, log: int) -> list[Process]:
        """A worker and its companion, joined by a socket of their own; neither without the other."""
        ours, theirs = packet_pair()
        with ours, theirs:
            companion = self._begin(self._policies[compiled.profile.programs], instance, theirs.fileno(), log)
            try:
                return [self._begin(compiled, instance, side, log, ours.fileno()), companion]
            except (OSError, AgentError):
                companion.kill()
                companion.reap()
                raise

    def _begin(self, compiled: Compiled, instance: int, side: int, log: int, programs: int = -1) -> Process:
        profile = compiled.profile
        name = f"{profile.kind}.{instance}"
        group = self._tree.create(name, profile.limits)
        self._dying.pop(name, None)
        birth = Birth(
            name,
            compiled,
            self._policies,
            profile.identity.uid + (instance if profile.identity.uid else 0),
            self._layout.channel_folder(profile.kind, instance),
            group,
            side,
            log,
            self._self,
            self._missing,
            programs,
            self._grants,
        )
        try:
            if profile.transport == "zmq":
                channel_folder.give(birth.channel_folder, birth.uid)
            return begin(birth, self._own_pid_namespace)
        except (OSError, AgentError):
            group.remove()
            channel_folder.take_away(birth.channel_folder)
            raise

    def _permitted(self, order: Order, descriptors: tuple[int, ...]) -> Compiled:
        compiled = self._policies.get(order.kind)
        if compiled is None or not compiled.profile.is_worker:
            raise Refused(f"no policy lets a worker of kind {order.kind!r} be started")
        if self._lacking and order.kind not in TELLING:
            raise Refused(f"policy requires what this machine lacks: {', '.join(self._lacking)}")
        if len(descriptors) != 2:
            raise Refused(f"{len(descriptors)} descriptors came where 2 were due")
        if order.serial in self._live:
            raise Refused(f"serial number {order.serial} is in use")
        if not order.instance < compiled.profile.lifetime.instances:
            raise Refused(f"policy allows {compiled.profile.lifetime.instances} of {order.kind}")
        if any((child.kind, child.instance) == (order.kind, order.instance) for child in self._live.values()):
            raise Refused(f"{order.kind}.{order.instance} is still alive")
        if len(self.pidfds) + (2 if compiled.profile.programs else 1) > MAX_CHILDREN:
            raise Refused(f"{MAX_CHILDREN} processes are alive, companions among them")
        return compiled
