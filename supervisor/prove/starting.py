# SPDX-License-Identifier: Apache-2.0
"""Owns how an attacking process comes to be: by the spawner's own code in the exact confinement of its kind, or bare.

Runs in a lane of `prove` and in its forks. Between the lane and each attacking process stands one that is what the
spawner is: it has shed what the spawner sheds, it is what the attacker's life hangs on, and it alone reaps.
"""

import fcntl
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from ipc.channel import Channel, PacketChannel
from ipc.descriptors import packet_pair, sealed_memfd
from ipc.errors import AgentError
from policy.profile import Compiled
from supervisor.jail import capabilities, namespaces, seccomp, syscalls
from supervisor.jail.birth import fork_in
from supervisor.jail.cgroup import Group
from supervisor.jail.resident import confine_resident
from supervisor.prove import within
from supervisor.prove.attempt import say
from supervisor.spawner import process
from supervisor.spawner.child import FILTER, LOG, SIDE, SPAWNER, Birth
from supervisor.spawner.process import Process

WITHIN, RESIDENT_WITHIN = "supervisor.prove.within", "supervisor.prove.resident_within"
_NUMBER = struct.Struct("=i")
_OUT_OF_THE_WAY = 64
LONGEST_START_S = 5.0
Begin = Callable[[], Process]
NO_GROUP = Group((), ())


class Ends(msgspec.Struct, frozen=True):
    """The attacker's ends of what it speaks by: descriptors of its packet socket and of its log."""

    side: int
    log: int


class StandIn:
    """The process in the spawner's place. `begin` starts the attacker in it; `shed` is done before."""

    def __init__(self, begin: Begin, shed: Callable[[], None], ends: Ends) -> None:
        self._attacker = 0
        orders, self._orders = os.pipe2(os.O_CLOEXEC)
        self._status, status = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._orders)
            _stand(begin, shed, ends, orders, status)
        os.close(orders)
        os.close(status)

    def kill_attacker(self) -> None:
        """As the spawner does it: the process and its group."""
        with suppress(BrokenPipeError):
            os.write(self._orders, b"k")

    def die(self) -> None:
        """End without a word, as a spawner that is killed."""
        os.kill(self.pid, signal.SIGKILL)

    def attacker_pid(self) -> int:
        """As the lane numbers it; 0 when it was never started."""
        if not self._attacker:
            self._attacker = self._number(LONGEST_START_S)
        return max(self._attacker, 0)

    def finish(self, patience_s: float) -> int:
        """The attacker's wait status; it is killed after `patience_s`. -1 where nobody is left to tell."""
        self.attacker_pid()
        status = self._number(patience_s)
        if status < 0:
            self.kill_attacker()
            status = self._number(LONGEST_START_S)
        with suppress(ProcessLookupError):
            self.die()
        os.waitpid(self.pid, 0)
        os.close(self._orders)
        os.close(self._status)
        return status

    def _number(self, patience_s: float) -> int:
        """The next number that it tells; -1 when none comes."""
        told = os.read(self._status, _NUMBER.size) if _readable(self._status, patience_s) else b""
        return int(_NUMBER.unpack(told)[0]) if told else -1


def shed_like(spawner: Compiled, without: frozenset[str] = frozenset()) -> Callable[[], None]:
    """What the spawner gives up before it has children, who inherit that; but for the controls in `without`."""

    def shed() -> None:
        if "capabilities" not in without:
            capabilities.narrow_to(spawner.profile.capability_names)
        if "dumpable" not in without:
            capabilities.forbid_dump()
        if "seccomp" not in without:
            seccomp.load(spawner.locked_filter)

    return shed


def worker(birth: Birth) -> Begin:
    """A worker, or a companion, by the spawner's own code; only its module is another."""
    compiled = birth.compiled
    profile = msgspec.structs.replace(compiled.profile, module=WITHIN)
    compiled = msgspec.structs.replace(compiled, profile=profile)

    def begin() -> Process:
        # A companion's place is taken by nobody who answers.
        ours, theirs = packet_pair()
        own = os.pidfd_open(os.getpid())
        programs = theirs.fileno() if profile.programs else -1
        ready = msgspec.structs.replace(birth, compiled=compiled, spawner=own, programs=programs)
        begun = process.begin(ready, namespaces.own_pid_namespace())
        theirs.close()
        ours.detach()
        return begun

    return begin


def resident(compiled: Compiled, group: Group, ends: Ends, without: frozenset[str] = frozenset()) -> Begin:
    """The supervisor: confined by the spawner's own code, and then by itself, as it does in its main program, but for
    the controls in `without`."""

    def become(born: bool) -> None:
        group.join(born_in_unified=born)
        confine_resident(compiled.profile, SPAWNER, compiled.startup_filter)
        python = sys.executable
        os.execve(python, [python, "-I", "-m", RESIDENT_WITHIN, *sorted(without)], {})

    policy = sealed_memfd("policy", msgspec.msgpack.encode(compiled))
    kept = {SIDE: ends.side, FILTER: policy, LOG: ends.log}
    return lambda: forked(group, kept, become, inherited=(SIDE, FILTER))


def bare(ends: Ends, channel: Callable[[socket.socket], Channel] = PacketChannel, uid: int = 0) -> Begin:
    """Root without any confinement, as the reference agent runs, or an account of this machine's with `uid`.

    `channel` makes the attacker's channel of its packet socket."""

    def become(_: bool) -> None:
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        within.main(channel(socket.socket(fileno=os.dup(SIDE))), lambda: None)

    return lambda: forked(NO_GROUP, {SIDE: ends.side, LOG: ends.log}, become)


def forked(
    group: Group, kept: Mapping[int, int], become: Callable[[bool], None], inherited: Sequence[int] = ()
) -> Process:
    """Fork a process, born in `group` where the kernel can do that (which `become` is told), with the descriptors of
    `kept` (its number -> ours) and those of them open in a new program that are `inherited`."""
    own = os.pidfd_open(os.getpid())
    pid, born = fork_in(group)
    if pid == 0:
        try:
            _arrange({**kept, SPAWNER: own}, inherited)
            os.chdir("/")
            os.umask(0o077)
            become(born)
            os._exit(0)
        except (OSError, AgentError) as error:
            os.write(LOG, f"not started: {error}\n".encode())
        finally:
            tell_of_a_bug()
            os._exit(1)
    os.close(own)
    return Process("bare", pid, os.pidfd_open(pid), group)


def _arrange(kept: Mapping[int, int], inherited: Sequence[int]) -> None:
    """`kept` maps the attacker's descriptors to ours; all others are closed, its input and output are /dev/null."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    high = {number: _moved(descriptor) for number, descriptor in {0: null, 1: null, **kept}.items()}
    for number, descriptor in high.items():
        os.dup2(descriptor, number, inheritable=number <= LOG or number in inherited)
    syscalls.close_range(max(high) + 1, 0xFFFFFFFF)


def _moved(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)


def _stand(begin: Begin, shed: Callable[[], None], ends: Ends, orders: int, status: int) -> None:
    """Never returns."""
    try:
        capabilities.die_with_parent()
        shed()
        attacker = begin()
        os.write(status, _NUMBER.pack(attacker.pid))
        os.close(ends.side)
        os.close(ends.log)
        _serve(attacker, orders)
        os.write(status, _NUMBER.pack(attacker.reap().status))
    except (OSError, AgentError) as error:
        os.dup2(ends.log, LOG)
        say(f"broken: {error}".encode())
    finally:
        tell_of_a_bug()
        os._exit(0)


def tell_of_a_bug() -> None:
    """On standard error, what this process is about to end by, if that is an exception."""
    if sys.exc_info()[0] is not None:
        sys.__excepthook__(*sys.exc_info())
        sys.stderr.flush()


def _serve(attacker: Process, orders: int) -> None:
    poller = select.poll()
    for descriptor in (attacker.pidfd, orders):
        poller.register(descriptor, select.POLLIN)
    while attacker.pidfd not in dict(poller.poll()):
        os.read(orders, 1)
        attacker.kill()
        poller.unregister(orders)


def _readable(descriptor: int, patience_s: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(int(patience_s * 1000)))
