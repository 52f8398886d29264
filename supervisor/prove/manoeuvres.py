# SPDX-License-Identifier: Apache-2.0
"""Owns attempts of which the attacker is only one half: what is done to it, or beside it, once it is ready.

Runs in a lane of `prove`.
"""

import errno
import os
import select
import socket
import time
from collections.abc import Callable

import msgspec

from policy.profile import Profile
from supervisor.jail import capabilities
from supervisor.prove import raw
from supervisor.prove.attempt import SAYS
from supervisor.prove.probes_processes import SECRET
from supervisor.prove.starting import StandIn
from supervisor.prove.verdict import Ended, read_end

# How long a process that was killed may take to be gone.
GONE_S = 1.0


class Listener:
    """Reads what the attacker writes on its standard error."""

    def __init__(self, descriptor: int, patience_s: float) -> None:
        self._descriptor = descriptor
        self._deadline = time.monotonic() + patience_s
        self._text = b""
        self._ended = False

    def words(self) -> tuple[list[str], str]:
        """Its own words, the first of which is that it begins, and all that it wrote.

        Waits for a second one, or for the end of all who could say it."""
        while not self._ended and len(self._said()) < 2 and self._read(self._deadline):
            pass
        return self._said(), self._text.decode("utf-8", "replace")

    def hangs_up(self, seconds: float) -> bool:
        """Whether nobody is left who could write, at the latest after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self._ended and self._read(deadline):
            pass
        return self._ended

    def _said(self) -> list[str]:
        lines = self._text.split(b"\n")[:-1]
        return [line.removeprefix(SAYS).decode("utf-8", "replace") for line in lines if line.startswith(SAYS)]

    def _read(self, deadline: float) -> bool:
        """False when nothing came in time."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        if not poller.poll(max(0, int((deadline - time.monotonic()) * 1000))):
            return False
        piece = os.read(self._descriptor, 65536)
        self._text += piece
        self._ended = not piece
        return True


class Attacker(msgspec.Struct, frozen=True):
    """One attacking process as its lane has it in hand."""

    stand: StandIn
    side: socket.socket
    listener: Listener
    profile: Profile
    confined: bool


def outlives_a_kill(attacker: Attacker) -> Ended:
    """Killed as the spawner kills a worker: whoever is left then has outlived it."""
    return _outlives(attacker, attacker.stand.kill_attacker)


def outlives_its_spawner(attacker: Attacker) -> Ended:
    """The spawner is killed."""
    return _outlives(attacker, attacker.stand.die)


def is_read_by_its_like(attacker: Attacker) -> Ended:
    """A process of the same uid and without a capability reads where the attacker keeps its secret."""
    words, log = attacker.listener.words()
    end = Ended("broken", log)
    if len(words) > 1 and words[-1].startswith("keeps "):
        end = _neighbour(attacker, int(words[-1].split()[1]))
        # It would sit and wait.
        attacker.stand.kill_attacker()
    attacker.side.close()
    status = attacker.stand.finish(GONE_S)
    return end if len(words) > 1 else read_end(words, status, log)


def _outlives(attacker: Attacker, kill: Callable[[], None]) -> Ended:
    words, log = attacker.listener.words()
    if words[1:2] != ["succeeded"]:
        attacker.side.close()
        return read_end(words, attacker.stand.finish(GONE_S), log)
    kill()
    gone = attacker.listener.hangs_up(GONE_S)
    # A survivor waits for that.
    attacker.side.close()
    attacker.stand.finish(GONE_S)
    return Ended("killed", "SIGKILL") if gone else Ended("succeeded")


def _neighbour(attacker: Attacker, address: int) -> Ended:
    uid = attacker.profile.identity.uid
    target = attacker.stand.attacker_pid()
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            if attacker.confined:
                _become(uid)
            status = 0 if raw.read_memory_of(target, address, len(SECRET)) == SECRET else 255
        except OSError as error:
            status = error.errno or 255
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 0:
        return Ended("succeeded")
    return Ended("denied", errno.errorcode.get(status, "EIO"))


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    if uid:
        os.setresuid(uid, uid, uid)
    else:
        capabilities.limit_to(frozenset())


MANOEUVRES: dict[str, Callable[[Attacker], Ended]] = {
    "outlives-a-kill": outlives_a_kill,
    "outlives-its-spawner": outlives_its_spawner,
    "is-read-by-its-like": is_read_by_its_like,
}
