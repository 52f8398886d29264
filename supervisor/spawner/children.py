# SPDX-License-Identifier: Apache-2.0
"""Owns the spawner's table of live workers: starts, kills and reaps them within the limits of their policies.

Runs in the spawner. It enforces what policy says by itself: an order from a hijacked supervisor gets no more.
"""

import os
import signal
from collections.abc import Mapping

import msgspec

from ipc.errors import AgentError
from ipc.records import Event, Happened, Op, Order, missing_mask
from policy.profile import Compiled
from supervisor.jail import namespaces
from supervisor.jail.birth import fork_in
from supervisor.jail.cgroup import Group, Tree
from supervisor.layout import Layout
from supervisor.spawner.child import Birth, live

MAX_CHILDREN = 64


class Refused(AgentError):
    """The order asks for what policy or the machine does not give; nothing was started."""


class Child(msgspec.Struct, frozen=True):
    """One live worker; `pidfd` is the spawner's own."""

    serial: int
    kind: str
    instance: int
    pid: int
    pidfd: int
    group: Group


class Children:
    """All live workers, by serial number."""

    def __init__(self, policies: Mapping[str, Compiled], layout: Layout, tree: Tree, missing: frozenset[str]) -> None:
        """`missing` are the mechanisms that this machine lacks (ipc.records.MECHANISMS)."""
        self._policies = policies
        self._layout = layout
        self._tree = tree
        self._missing = missing
        self._live: dict[int, Child] = {}
        self._self = os.pidfd_open(os.getpid())
        self._own_pid_namespace = namespaces.own_pid_namespace()

    @property
    def pidfds(self) -> dict[int, int]:
        """Pidfd -> serial number of every live worker."""
        return {child.pidfd: serial for serial, child in self._live.items()}

    def start(self, order: Order, descriptors: tuple[int, ...]) -> tuple[Event, int]:
        """Start a worker; returns the event and its pidfd. Refused when policy forbids it, OSError from the kernel."""
        compiled = self._permitted(order, descriptors)
        profile = compiled.profile
        group = self._tree.create(f"{order.kind}.{order.instance}", profile.limits)
        birth = Birth(
            compiled,
            self._policies,
            profile.identity.uid + (order.instance if profile.identity.uid else 0),
            self._layout.channel_folder(order.kind, order.instance),
            group,
            descriptors[0],
            descriptors[1],
            self._self,
            self._missing,
        )
        try:
            pid = self._fork(birth, "pid" in profile.namespaces.new)
        except OSError:
            group.remove()
            raise
        # Before anything can reap it: only this process ever waits for its children, and only through this descriptor.
        pidfd = os.pidfd_open(pid)
        self._live[order.serial] = Child(order.serial, order.kind, order.instance, pid, pidfd, group)
        event = Event(Happened.STARTED, order.serial, pid, missing=missing_mask((*self._missing, *group.missing)))
        return event, pidfd

    def signal(self, order: Order) -> None:
        """Kill a worker and all that it started, or ask it for its stack first. Nothing happens if it is gone."""
        child = self._live.get(order.serial)
        if child is None:
            return
        if order.op is Op.ABORT:
            signal.pidfd_send_signal(child.pidfd, signal.SIGABRT)
        else:
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            child.group.kill()

    def reap(self, serial: int) -> Event:
        """The end of a worker whose pidfd is readable."""
        child = self._live.pop(serial)
        _, status, usage = os.wait4(child.pid, 0)
        os.close(child.pidfd)
        child.group.kill()
        child.group.remove()
        cpu_us = int((usage.ru_utime + usage.ru_stime) * 1e6)
        return Event(
            Happened.EXITED, serial, child.pid, status, cpu_us=min(cpu_us, 2**32 - 1), peak_kib=usage.ru_maxrss
        )

    def kill_all(self) -> None:
        """End every worker and wait for each: the supervisor that they belonged to is gone."""
        for child in self._live.values():
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            child.group.kill()
        for serial in list(self._live):
            self.reap(serial)

    def _permitted(self, order: Order, descriptors: tuple[int, ...]) -> Compiled:
        compiled = self._policies.get(order.kind)
        if compiled is None or not compiled.profile.module.startswith(("workers.", "supervisor.v")):
            raise Refused(f"no policy lets a worker of kind {order.kind!r} be started")
        if len(descriptors) != 2:
            raise Refused(f"{len(descriptors)} descriptors came where 2 were due")
        if order.serial in self._live:
            raise Refused(f"serial number {order.serial} is in use")
        if not order.instance < compiled.profile.lifetime.instances:
            raise Refused(f"policy allows {compiled.profile.lifetime.instances} of {order.kind}")
        if any((child.kind, child.instance) == (order.kind, order.instance) for child in self._live.values()):
            raise Refused(f"{order.kind}.{order.instance} is still alive")
        if len(self._live) >= MAX_CHILDREN:
            raise Refused(f"{MAX_CHILDREN} workers are alive")
        return compiled

    def _fork(self, birth: Birth, new_pid_namespace: bool) -> int:
        """Fork the child, as the first process of a pid namespace of its own if so asked.

        The kernel puts children, not the caller, into a new pid namespace, so the spawner takes one for the length of
        the fork and then goes back: no second fork, and the child's pid is known at once."""
        if new_pid_namespace:
            namespaces.enter_new_pid_namespace()
        try:
            pid, born = fork_in(birth.group)
            if pid == 0:
                live(birth, born_in_group=born)
        finally:
            if new_pid_namespace:
                namespaces.return_to_pid_namespace(self._own_pid_namespace)
        return pid
