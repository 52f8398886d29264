# SPDX-License-Identifier: Apache-2.0
"""Owns attempts on the kernel, the network and the limits: system calls, sockets, memory, the machine's own settings.

Runs in the attacking process, on a stage whose network and host name are nobody's.
"""

import errno
import mmap
import os
import signal
import socket
import struct

from supervisor.prove import raw
from supervisor.prove.attempt import NotSeen, Probe, Target
from supervisor.prove.groups import PREFIX

HOST_ADDRESS = "168.63.129.16"
# Set in every lane, for whoever inherits it.
CANARY = "AGENT_SUPERVISOR_PROVE"
_SHM_RDONLY = 0o10000


def calls(target: Target) -> None:
    """System call `name` with `words`."""
    words = target.arguments.get("words", ())
    raw.call(target.word("name"), *(words if isinstance(words, tuple) else (words,)))


def makes_a_socket(target: Target) -> None:
    """Of any family; nothing is done with it."""
    socket.socket(target.number("family"), target.number("type"), target.number("protocol")).close()


def connects_to(target: Target) -> None:
    """By TCP."""
    with socket.socket() as peer:
        peer.settimeout(2)
        peer.connect((target.word("address"), target.number("port")))


def sends_to(target: Target) -> None:
    """A datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"x", (target.word("address"), target.number("port")))


def listens_at(target: Target) -> None:
    """A TCP port."""
    with socket.socket() as listener:
        listener.bind((target.word("address"), target.number("port")))


def sees_the_hosts_addresses(_: Target) -> None:
    """By rtnetlink: RTM_GETADDR, all of them."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as peer:
        peer.settimeout(1)
        peer.send(struct.pack("=IHHII8x", 24, 22, 0x301, 1, 0))
        if socket.inet_aton(HOST_ADDRESS) not in peer.recv(65536):
            raise NotSeen("no address of the host's")


def sets_the_host_name(target: Target) -> None:
    """Of the stage, whose name is looked at afterwards."""
    socket.sethostname(target.word("name"))


def mounts_for_all(_: Target) -> None:
    """On a folder of the stage, which is looked at afterwards."""
    raw.call("mount", "tmpfs", "/var/lib/devices", "tmpfs", 0, "")


def sets_the_clock(_: Target) -> None:
    """The length of a tick, to what it is."""
    raw.set_tick_as_it_is()


def reads_shared_memory(target: Target) -> None:
    """A segment of System V's."""
    raw.call("shmat", raw.call("shmget", target.number("key"), 0, 0), 0, _SHM_RDONLY)


def maps_writable_code(_: Target) -> None:
    """A page that may be written and executed."""
    raw.map_pages(mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


def makes_memory_code(_: Target) -> None:
    """A page that was written, executable."""
    raw.protect(raw.map_pages(mmap.PROT_READ | mmap.PROT_WRITE), mmap.PROT_READ | mmap.PROT_EXEC)


def inherits_an_environment(_: Target) -> None:
    """A variable that was set before it was started, as Python or the C library sees it."""
    if CANARY not in os.environ and not raw.has_variable(CANARY):
        raise NotSeen("no such variable")


def takes_memory(target: Target) -> None:
    """More than its group may have."""
    held = [bytearray(b"x" * (1 << 20)) for _ in range(target.number("mib"))]
    del held


def forks_without_end(target: Target) -> None:
    """More processes than it may have; they end with it."""
    children = []
    try:
        for _ in range(target.number("count")):
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def takes_descriptors(target: Target) -> None:
    """More than it may have."""
    held: list[int] = []
    try:
        held.extend(os.dup(0) for _ in range(target.number("count")))
    finally:
        for descriptor in held:
            os.close(descriptor)


def writes_far(target: Target) -> None:
    """A byte beyond the largest file that it may write; nothing before it takes room."""
    file = os.memfd_create("far")
    try:
        os.pwrite(file, b"x", target.number("mib") << 20)
    finally:
        os.close(file)


def joins_a_cgroup(target: Target) -> None:
    """A decoy's, and so out of its own limits."""
    _write(target.word("path"), b"0")


def lifts_its_limit(target: Target) -> None:
    """The limit of its own group, to what it is."""
    for path in target.word("paths").split():
        try:
            _write(path, target.word("value").encode())
        except FileNotFoundError:
            continue
        return
    raise OSError(errno.ENOENT, "no such limit")


def learns_its_place(_: Target) -> None:
    """Its groups by their names in the machine's own tree."""
    file = os.open("/proc/self/cgroup", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if PREFIX.encode() not in os.read(file, 65536):
            raise NotSeen("no name of the machine's")
    finally:
        os.close(file)


def _write(path: str, text: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text)
    finally:
        os.close(file)


PROBES: dict[str, Probe] = {
    "calls": calls,
    "makes-a-socket": makes_a_socket,
    "connects-to": connects_to,
    "sends-to": sends_to,
    "listens-at": listens_at,
    "sees-the-hosts-addresses": sees_the_hosts_addresses,
    "sets-the-host-name": sets_the_host_name,
    "mounts-for-all": mounts_for_all,
    "sets-the-clock": sets_the_clock,
    "reads-shared-memory": reads_shared_memory,
    "maps-writable-code": maps_writable_code,
    "makes-memory-code": makes_memory_code,
    "inherits-an-environment": inherits_an_environment,
    "takes-memory": takes_memory,
    "forks-without-end": forks_without_end,
    "takes-descriptors": takes_descriptors,
    "writes-far": writes_far,
    "joins-a-cgroup": joins_a_cgroup,
    "lifts-its-limit": lifts_its_limit,
    "learns-its-place": learns_its_place,
}
