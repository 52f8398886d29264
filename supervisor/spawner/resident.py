# SPDX-License-Identifier: Apache-2.0
"""Owns the supervisor as the spawner sees it: its first confined child, a fresh program, started again if it dies.

Runs in the spawner. It must give the supervisor exactly one descriptor beside stdin, stdout and stderr.
"""

import fcntl
import os
import signal
import socket
import sys

from ipc.descriptors import packet_pair
from ipc.errors import ConfinementError
from policy.profile import Compiled
from supervisor.exits import EXIT_CONFINEMENT
from supervisor.jail import syscalls
from supervisor.jail.birth import fork_in
from supervisor.jail.cgroup import Group
from supervisor.jail.resident import confine_resident

SPAWNER_FD = 3


class Resident:
    """The one supervisor process; `channel` is our end of the record socket, `deaf` that nobody reads the other."""

    def __init__(
        self, compiled: Compiled, group: Group, config_path: str, restarts: int = 0, last_exit: str = ""
    ) -> None:
        """`group` limits it: what a worker makes it take in is bounded by the kernel, too. `restarts` and `last_exit`
        are what it can't know of its earlier lives, for `ps`."""
        self._past = (str(restarts), last_exit)
        self.group = group
        self._compiled = compiled
        self._config_path = config_path
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
            # First out of the way: either may have the number that the other is to get.
            records, lifeline = (fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 64) for each in (theirs.fileno(), self._self))
            os.dup2(records, SPAWNER_FD, inheritable=True)
            spawner = os.dup2(lifeline, SPAWNER_FD + 1, inheritable=False)
            syscalls.close_range(SPAWNER_FD + 2, 0xFFFFFFFF)
            os.chdir("/")
            os.umask(0o077)
            confine_resident(self._compiled.profile, spawner, self._compiled.startup_filter)
            python = sys.executable
            os.execve(
                python, [python, "-I", "-m", self._compiled.profile.module, self._config_path, *self._past], environment
            )
        except (OSError, ConfinementError) as error:
            say(f"the supervisor can't be started: {error}")
        finally:
            if sys.exc_info()[0] is not None:
                sys.__excepthook__(*sys.exc_info())
            os._exit(EXIT_CONFINEMENT)


# What systemd tells a service through its environment; nothing else is passed on.
PASSED_ON = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM", "INVOCATION_ID")


def say(text: str) -> None:
    """One line of the spawner's own, which has no log sink."""
    os.write(2, f"agent-supervisor: {text}\n".encode())
