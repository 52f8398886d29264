# SPDX-License-Identifier: Apache-2.0
"""Owns attempts on other processes, on new programs and on identity: decoys' memory, signals, setuid programs.

Runs in the attacking process. Signals are number 0, which is judged like any other and does nothing.
"""

import errno
import os
import select
import signal
import sys

from supervisor.prove import raw
from supervisor.prove.attempt import SAYS, NotSeen, Probe, Target, say

_SEIZE, _SYS_ADMIN = 0x4206, 1 << 21
_NAMESPACES = {"mount": 0x00020000, "pid": 0x20000000, "net": 0x40000000, "user": 0x10000000}
SECRET = b"a worker's secret, which is nobody else's"


def signals(target: Target) -> None:
    """One process."""
    os.kill(target.number("pid"), 0)


def signals_anybody(target: Target) -> None:
    """One after the other; process 1 and its parent among them, as it numbers them."""
    pids = target.arguments["pids"]
    others = {1, os.getppid(), *map(int, pids if isinstance(pids, tuple) else ())} - {0, os.getpid()}
    denied = 0
    for pid in sorted(others):
        try:
            os.kill(pid, 0)
        except OSError:
            denied += 1
    if denied == len(others):
        raise PermissionError(errno.EPERM, "not one of them")


def signals_by_descriptor(target: Target) -> None:
    """One process, by its pidfd."""
    pidfd = os.pidfd_open(target.number("pid"))
    signal.pidfd_send_signal(pidfd, 0)


def traces(target: Target) -> None:
    """PTRACE_SEIZE stops nobody, and ends with the tracer."""
    raw.call("ptrace", _SEIZE, target.number("pid"), 0, 0)


def reads_memory(target: Target) -> None:
    """Of a decoy, where its secret lies, by process_vm_readv."""
    _found(raw.read_memory_of(target.number("pid"), target.number("address"), len(SECRET)))


def reads_memory_file(target: Target) -> None:
    """The same by /proc/PID/mem."""
    file = os.open(f"/proc/{target.word('pid')}/mem", os.O_RDONLY | os.O_CLOEXEC)
    _found(os.pread(file, len(SECRET), target.number("address")))


def reads_its_folder(target: Target) -> None:
    """A file in /proc/PID that is for the process itself."""
    file = os.open(f"/proc/{target.word('pid')}/{target.word('file')}", os.O_RDONLY | os.O_CLOEXEC)
    os.read(file, 64)


def takes_a_descriptor(target: Target) -> None:
    """A decoy's, by pidfd_getfd."""
    os.close(raw.call("pidfd_getfd", os.pidfd_open(target.number("pid")), 2, 0))


def enters_a_namespace(target: Target) -> None:
    """Of a decoy; this process alone enters it."""
    raw.call("setns", os.pidfd_open(target.number("pid")), _NAMESPACES[target.word("namespace")])


def leaves_for(target: Target) -> None:
    """New namespaces of its own."""
    raw.call("unshare", target.number("flags"))


def clones_into(target: Target) -> None:
    """A child in namespaces of its own, which ends at once."""
    if raw.call("clone", target.number("flags") | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)


def runs(target: Target) -> None:
    """A program, which says so itself."""
    script = f"echo '{SAYS.decode()}succeeded' >&2"
    os.execve(target.word("path"), [target.word("path"), "-c", script], {})


def runs_a_setuid_program(target: Target) -> None:
    """A shell starts it: root's id, or not."""
    word = SAYS.decode()
    script = f"test \"$({target.word('path')} -u)\" = 0 && echo '{word}succeeded' >&2 || echo '{word}denied EPERM' >&2"
    if os.geteuid() == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    os.execve("/bin/sh", ["sh", "-c", script], {"PATH": "/usr/bin:/bin"})


def runs_from_memory(_: Target) -> None:
    """A program that is in no file system."""
    program = os.memfd_create("program", 0)
    os.write(program, f"#!/bin/sh\necho '{SAYS.decode()}succeeded' >&2\n".encode())
    os.execve(program, ["program"], {})


def becomes(target: Target) -> None:
    """Another uid for good."""
    uid = target.number("uid")
    os.setresuid(uid, uid, uid)
    if uid and os.getuid() == uid:
        return
    if os.geteuid() != 0:
        raise NotSeen("another uid")


def joins_a_group(target: Target) -> None:
    """As its only one beside its own."""
    os.setgroups([target.number("gid")])


def raises_capabilities(_: Target) -> None:
    """Sys_admin, permitted and effective."""
    head = (0x20080522).to_bytes(4, sys.byteorder) + bytes(4)
    raw.call("capset", head, b"".join(word.to_bytes(4, sys.byteorder) for word in (_SYS_ADMIN, _SYS_ADMIN, 0, 0, 0, 0)))


def forks_and_hides(target: Target) -> None:
    """A grandchild in a session of its own, which goes on until whoever started this hangs up."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _until_hung_up()
        os._exit(0)
    say(b"succeeded")
    _until_hung_up()


def goes_on(_: Target) -> None:
    """For as long as nobody ends it."""
    say(b"succeeded")
    _until_hung_up()


def keeps_a_secret(_: Target) -> None:
    """In its memory, and tells where: somebody else will try to read it."""
    address, kept = raw.address_of(SECRET)
    say(f"keeps {address}".encode())
    _until_hung_up()
    del kept


def _until_hung_up() -> None:
    waiting = select.poll()
    waiting.register(3, select.POLLHUP)
    waiting.poll(20_000)
    os._exit(0)


def _found(memory: bytes) -> None:
    if memory != SECRET:
        raise NotSeen("other bytes")


PROBES: dict[str, Probe] = {
    "signals": signals,
    "signals-anybody": signals_anybody,
    "signals-by-descriptor": signals_by_descriptor,
    "traces": traces,
    "reads-memory": reads_memory,
    "reads-memory-file": reads_memory_file,
    "reads-its-folder": reads_its_folder,
    "takes-a-descriptor": takes_a_descriptor,
    "enters-a-namespace": enters_a_namespace,
    "leaves-for": leaves_for,
    "clones-into": clones_into,
    "runs": runs,
    "runs-a-setuid-program": runs_a_setuid_program,
    "runs-from-memory": runs_from_memory,
    "becomes": becomes,
    "joins-a-group": joins_a_group,
    "raises-capabilities": raises_capabilities,
    "outlives-a-kill": forks_and_hides,
    "outlives-its-spawner": goes_on,
    "is-read-by-its-like": keeps_a_secret,
}
