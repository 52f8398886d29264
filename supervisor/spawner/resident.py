# SPDX-License-Identifier: Apache-2.0
"""Owns the supervisor as the spawner sees it: its first confined child, a fresh program, started again if it dies.

Runs in the spawner. It must give the supervisor no descriptor beside stdin, stdout, stderr and the
records' socket, and the policy where that is not the shipped one.
"""

import fcntl
import os
import signal
import socket
import sys

import msgspec

from ipc.descriptors import packet_pair
from ipc.errors import ConfinementError
from policy.profile import Compiled
from supervisor.exits import EXIT_CONFINEMENT
from supervisor.jail import syscalls
from supervisor.jail.birth import fork_in
from supervisor.jail.cgroup import Group
from supervisor.jail.resident import confine_resident

SPAWNER_FD, POLICY_FD = 3, 5


class Start(msgspec.Struct, frozen=True):
    """What it is each time: `group` limits it, because what a worker makes it take in is to be bounded by the kernel,
    too. `policy` is the sealed file with the policy in force, None for the shipped one."""

    compiled: Compiled
    group: Group
    config_path: str
    policy: int | None = None


class Resident:
    """The one supervisor process; `channel` is our end of the record socket, `deaf` that nobody reads the other."""

    def __init__(self, start: Start, restarts: int = 0, last_exit: str = "", *, anew: bool = False) -> None:
        """`restarts` and `last_exit` are what it can't know of its earlier lives, for `ps`; `anew`: the one before
        has provisioned and made room for it."""
        self.group = start.group
        self._compiled = start.compiled
        self._policy = start.policy
        policy = -1 if start.policy is None else POLICY_FD
        self._arguments = (start.config_path, str(restarts), last_exit, str(policy), "anew" if anew else "")
        self._self = os.pidfd_open(os.getpid())
        self.deaf = False
        self.channel, theirs = packet_pair()
        self.pid = self._start(theirs)
        theirs.close()
        self.pidfd = os.pidfd_open(self.pid)

    def ask_to_stop(self) -> None:
        """SIGTERM: it says so to systemd, ends its work and exits."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)

    def kill(self) -> None:
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> int:
        """Its wait status, once its pidfd is readable; closes what belonged to it."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        os.close(self._self)
        self.channel.close()
        return status

    def _start(self, theirs: socket.socket) -> int:
        pid, born = fork_in(self.group)
        if pid:
            return pid
        try:
            self.group.join(born_in_unified=born)
            environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
            spawner = self._arrange_descriptors(theirs.fileno())
            os.chdir("/")
            os.umask(0o077)
            confine_resident(self._compiled.profile, spawner, self._compiled.startup_filter)
            python = sys.executable
            module = self._compiled.profile.module
            os.execve(python, [python, "-I", "-m", module, *self._arguments], environment)
        except (OSError, ConfinementError) as error:
            say(f"the supervisor can't be started: {error}")
        finally:
            if sys.exc_info()[0] is not None:
                sys.__excepthook__(*sys.exc_info())
            os._exit(EXIT_CONFINEMENT)

    def _arrange_descriptors(self, records: int) -> int:
        """Those at the top of this file, and no others; returns the spawner's pidfd, which no exec keeps."""
        wanted = {SPAWNER_FD: records, SPAWNER_FD + 1: self._self}
        if self._policy is not None:
            wanted[POLICY_FD] = self._policy
        # First out of the way: each may have the number that another is to get.
        kept = {number: fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 64) for number, each in wanted.items()}
        for number, descriptor in kept.items():
            os.dup2(descriptor, number, inheritable=number != SPAWNER_FD + 1)
        syscalls.close_range(max(wanted) + 1, 0xFFFFFFFF)
        return SPAWNER_FD + 1


# What systemd tells a service through its environment, and by which proxy storage is reached; nothing else goes on.
PASSED_ON = (
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM", "INVOCATION_ID", "https_proxy", "HTTPS_PROXY",
    "http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY",
)  # fmt: skip


def say(text: str) -> None:
    """One line of the spawner's own, which has no log sink."""
    os.write(2, f"agent-supervisor: {text}\n".encode())
