# SPDX-License-Identifier: Apache-2.0
"""Owns one confined process as the spawner sees it: forked into its group, ended, reaped.

Runs in the spawner, which alone waits for its children, each through a descriptor that it opened before it could reap.
"""

import os
import signal

import msgspec

from supervisor.jail import namespaces
from supervisor.jail.birth import fork_in
from supervisor.jail.cgroup import Group
from supervisor.spawner.child import Birth, live

# What a record has room for.
MOST_US = 2**32 - 1


class Exit(msgspec.Struct, frozen=True):
    """A wait status, and what the process and those that it waited for used."""

    status: int
    cpu_us: int
    peak_kib: int


class Process(msgspec.Struct, frozen=True):
    """A live process; `pidfd` is the spawner's own."""

    name: str
    pid: int
    pidfd: int
    group: Group

    def kill(self) -> None:
        """End it and all that it started."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self.group.kill()

    def reap(self) -> Exit:
        """Its end, waited for; nothing of it is left."""
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self.pidfd)
        self.group.kill()
        self.group.remove()
        return Exit(status, int((usage.ru_utime + usage.ru_stime) * 1e6), usage.ru_maxrss)


def begin(birth: Birth, own_pid_namespace: int) -> Process:
    """Fork the process that `birth` describes; OSError from the kernel: then there is none."""
    pid = _fork(birth, own_pid_namespace)
    try:
        return Process(birth.name, pid, os.pidfd_open(pid), birth.group)
    except OSError:
        # It is not reaped yet: the number is still its own.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _fork(birth: Birth, own_pid_namespace: int) -> int:
    """Fork the child, as the first process of a pid namespace of its own if policy says so.

    The kernel puts children, not the caller, into a new pid namespace, so the spawner takes one for the length of
    the fork and then goes back: no second fork, and the child's pid is known at once."""
    new_pid_namespace = "pid" in birth.compiled.profile.namespaces.new
    if new_pid_namespace:
        namespaces.enter_new_pid_namespace()
    try:
        pid, born = fork_in(birth.group)
        if pid == 0:
            live(birth, born_in_group=born)
    finally:
        if new_pid_namespace:
            namespaces.return_to_pid_namespace(own_pid_namespace)
    return pid
