# SPDX-License-Identifier: Apache-2.0
"""The attempts of a taken-over worker on everything but its supervisor: each raises OSError when it is denied.

Runs in the worker. What an attempt needs is imported here, before the confinement, as the real modules are.
"""

import ctypes
import errno
import mmap
import os
import pathlib
import signal
import socket
import stat
import time
from collections.abc import Callable

from tests.abuse.target import LIBC, Target, call, syscall

NEWNS, NEWUSER = 0x20000, 0x10000000
NUMBERS = {
    "x86_64": {
        "add_key": 248, "bpf": 321, "finit_module": 313, "io_uring_setup": 425, "kexec_load": 246, "keyctl": 250,
        "open_tree": 428, "perf_event_open": 298, "pivot_root": 155, "userfaultfd": 323, "pidfd_open": 434,
        "memfd_secret": 447, "fsopen": 430, "personality": 135, "clone3": 435,
    },
    "aarch64": {
        "add_key": 217, "bpf": 280, "finit_module": 273, "io_uring_setup": 425, "kexec_load": 104, "keyctl": 219,
        "open_tree": 428, "perf_event_open": 241, "pivot_root": 41, "userfaultfd": 282, "pidfd_open": 434,
        "memfd_secret": 447, "fsopen": 430, "personality": 92, "clone3": 435,
    },
}[os.uname().machine]  # fmt: skip
ZEROS = ctypes.create_string_buffer(256)
Case = Callable[[Target], object]


def opens(path: str, flags: int = os.O_RDONLY) -> Case:
    return lambda _: os.open(path, flags)


def makes_socket(family: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> Case:
    return lambda _: socket.socket(family, kind, protocol)


def connects_tcp(address: str, port: int) -> Case:
    def case(_: Target) -> None:
        peer = socket.socket()
        peer.settimeout(2)
        peer.connect((address, port))

    return case


def sends_udp(address: str, port: int) -> Case:
    return lambda _: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (address, port))


def connects_unix(address: str, kind: int = socket.SOCK_STREAM) -> Case:
    return lambda _: socket.socket(socket.AF_UNIX, kind).connect(address)


def calls(name: str, *arguments: object) -> Case:
    return lambda _: syscall(NUMBERS[name], *(argument if argument is not ... else ZEROS for argument in arguments))


def unshares(flags: int) -> Case:
    return lambda _: call("unshare", flags)


def supervisor(target: Target) -> int:
    return int(target.words[0])


def traces_supervisor(target: Target) -> None:
    call("ptrace", 16, supervisor(target), None, None)


def reads_supervisors_memory(target: Target) -> None:
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(ZEROS), 8)
    call("process_vm_readv", supervisor(target), vector, 1, vector, 1, 0)


def enters_supervisors_namespace(target: Target) -> None:
    call("setns", syscall(NUMBERS["pidfd_open"], supervisor(target), 0), NEWNS)


def runs_a_shell(_: Target) -> None:
    os.execve("/bin/sh", ["sh", "-c", "echo runs_a_shell succeeded >&2; exit 1"], {})


def runs_a_setuid_program(_: Target) -> None:
    """In a shell, which tells what came of it; without one it is denied already."""
    test = 'test "$(/usr/local/bin/setuid-id -u)" = 0 && echo runs_a_setuid_program succeeded >&2'
    os.execve(
        "/bin/sh", ["sh", "-c", f"{test} || echo runs_a_setuid_program denied 1 >&2; exit 1"], {"PATH": "/usr/bin:/bin"}
    )


def takes_all_memory(_: Target) -> None:
    held = [bytearray(b"x" * (1 << 20)) for _ in range(300)]
    os.write(2, f"{len(held)} MiB held\n".encode())


def forks_without_end(_: Target) -> None:
    for _number in range(40):
        if os.fork() == 0:
            signal.pause()
            os._exit(0)


def takes_all_descriptors(target: Target) -> None:
    for _ in range(200):
        os.dup(target.file)


def fills_memory_with_a_file(_: Target) -> None:
    file = os.memfd_create("full")
    for _number in range(32):
        os.write(file, bytes(1 << 20))


def writes_through_a_reading_descriptor(target: Target) -> None:
    os.write(target.file, b"x")


def reopens_it_for_writing(target: Target) -> None:
    os.open(f"/proc/self/fd/{target.file}", os.O_WRONLY)


def climbs_out_of_a_folder(target: Target) -> None:
    os.open("../../../etc/passwd", os.O_RDONLY, dir_fd=target.folder)


def looks_into_a_folder(target: Target) -> None:
    os.open("inner", os.O_RDONLY, dir_fd=target.folder)


def makes_a_file_setuid(target: Target) -> None:
    os.fchmod(target.file, 0o4755)
    os.fchmod(target.file, 0o600)


def maps_writable_code(_: Target) -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


def makes_memory_code(_: Target) -> None:
    LIBC.mmap.restype = ctypes.c_void_p
    place = LIBC.mmap(None, ctypes.c_size_t(4096), 3, 0x22, -1, ctypes.c_long(0))
    call("mprotect", ctypes.c_void_p(place), ctypes.c_size_t(4096), 5)


def has_an_environment(_: Target) -> None:
    if not os.environ and not ctypes.c_void_p.in_dll(LIBC, "environ").value:
        raise OSError(errno.ENOENT, "no environment")
    block = ctypes.POINTER(ctypes.c_char_p).in_dll(LIBC, "environ")
    if block[0] is None:
        raise OSError(errno.ENOENT, "no environment")


def listens_on_the_network(_: Target) -> None:
    socket.socket().bind(("127.0.0.1", 4444))


def signals_everybody(_: Target) -> None:
    os.kill(-1, 0)


CASES: dict[str, Case] = {
    "reads_shadow": opens("/etc/shadow"),
    "reads_passwd": opens("/etc/passwd"),
    "writes_passwd": opens("/etc/passwd", os.O_WRONLY),
    "makes_a_file": opens("/new", os.O_WRONLY | os.O_CREAT),
    "reads_process_1": opens("/proc/1/environ"),
    "reads_its_own_memory_file": opens("/proc/self/mem"),
    "traces_supervisor": traces_supervisor,
    "reads_supervisors_memory": reads_supervisors_memory,
    "signals_supervisor": lambda target: os.kill(supervisor(target), 0),
    "signals_everybody": signals_everybody,
    "runs_a_shell": runs_a_shell,
    "runs_a_setuid_program": runs_a_setuid_program,
    "connects_to_wireserver": connects_tcp("168.63.129.16", 80),
    "connects_to_host_plugin": connects_tcp("168.63.129.16", 32526),
    "connects_to_metadata": connects_tcp("169.254.169.254", 80),
    "connects_to_the_internet": connects_tcp("192.0.2.1", 443),
    "sends_to_wireserver": sends_udp("168.63.129.16", 53),
    "listens_on_the_network": listens_on_the_network,
    "packet_socket": makes_socket(socket.AF_PACKET, socket.SOCK_RAW),
    "netlink_socket": makes_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "vsock_socket": makes_socket(socket.AF_VSOCK, socket.SOCK_STREAM),
    "alg_socket": makes_socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
    "key_socket": makes_socket(15, socket.SOCK_RAW, 2),
    "inet_socket": makes_socket(socket.AF_INET),
    "bpf": calls("bpf", 0, ..., 72),
    "perf_event": calls("perf_event_open", ..., 0, -1, -1, 0),
    "userfaultfd": calls("userfaultfd", 1),
    "io_uring": calls("io_uring_setup", 1, ...),
    "keyctl": calls("keyctl", 0, -3, 1),
    "add_key": calls("add_key", b"user", b"x", b"y", 1, -3),
    "memfd_secret": calls("memfd_secret", 0),
    "personality": calls("personality", 0x0040000),
    "unshares_user": unshares(NEWUSER),
    "unshares_mount": unshares(NEWNS),
    "enters_supervisors_namespace": enters_supervisors_namespace,
    "mounts": lambda _: call("mount", b"tmpfs", b"/", b"tmpfs", 0, None),
    "unmounts": lambda _: call("umount2", b"/", 2),
    "pivots": calls("pivot_root", b".", b"."),
    "changes_root": lambda _: os.chroot("/"),
    "open_tree": calls("open_tree", -100, b"/", 1),
    "fsopen": calls("fsopen", b"tmpfs", 0),
    "loads_a_module": calls("finit_module", 0, b"", 0),
    "kexec": calls("kexec_load", 0, 0, 0, 0),
    "sets_host_name": lambda _: socket.sethostname("taken-over"),
    "sets_the_clock": lambda _: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "swaps": lambda _: call("swapon", b"/nowhere", 0),
    "makes_a_device": lambda _: os.mknod("/channel/device", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "makes_a_file_setuid": makes_a_file_setuid,
    "lifts_its_limits": opens("/sys/fs/cgroup/cgroup.procs", os.O_WRONLY),
    "takes_all_memory": takes_all_memory,
    "forks_without_end": forks_without_end,
    "takes_all_descriptors": takes_all_descriptors,
    "fills_memory_with_a_file": fills_memory_with_a_file,
    "writes_through_a_reading_descriptor": writes_through_a_reading_descriptor,
    "reopens_it_for_writing": reopens_it_for_writing,
    "climbs_out_of_a_folder": climbs_out_of_a_folder,
    "looks_into_a_folder": looks_into_a_folder,
    "maps_writable_code": maps_writable_code,
    "makes_memory_code": makes_memory_code,
    "has_an_environment": has_an_environment,
    "connects_to_an_abstract_socket": connects_unix("\0rig"),
    "connects_to_the_bus": connects_unix("/run/dbus/system_bus_socket"),
    "writes_to_the_journal": connects_unix("/run/systemd/journal/socket", socket.SOCK_DGRAM),
    "connects_to_the_control_socket": connects_unix("/run/agent-supervisor/control.sock", socket.SOCK_SEQPACKET),
    "connects_to_another_workers_socket": connects_unix("/run/agent-supervisor/w/provisioning.0/s"),
    "unlinks_its_socket": lambda _: pathlib.Path("/channel/s").unlink(),
    "replaces_its_socket": lambda _: pathlib.Path("/channel/s").rename("/channel/t"),
}
