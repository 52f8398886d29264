# SPDX-License-Identifier: Apache-2.0
"""Owns that a contained command reaches what its outbound list names and nothing else, for as long as anything of it
lives.

Runs in the child that becomes the command, while that still has the warden's capabilities. Where the kernel can't do
it, or does not, the command must not be run.
"""

import os
import socket
import struct

from policy.outbound import prefix
from supervisor.jail import syscalls
from supervisor.jail.outbound_programs import Place, Program, programs

ROOTS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
# Nobody listens there: of this machine, and of no interface that leads anywhere.
CANARY = "127.63.129.19"
_NAME = b"as_outbound"
# struct sock_filter: the call's number; if it is this one, refuse it; else allow it.
_LOOK, _IF, _ANSWER = 0x20, 0x15, 0x06
_REFUSED, _ALLOWED = 0x00050001, 0x7FFF0000

# From then on a socket belongs to one cgroup of version 2, whatever version 1 is used for.
STEADY = (5, 15)
SPOILERS = ("net_cls", "net_prio")

Entry = tuple[str, tuple[int, ...], tuple[int, ...]]


def confine(outbound: "tuple[Entry, ...]", unit: str) -> None:
    """This process, which has to be in the cgroup of `unit`, and all that it starts. OSError: then nothing may run."""
    try:
        with open("/proc/cgroups", encoding="ascii") as file:
            if spoiler := spoiler_of(os.uname().release, file.read()):
                raise OSError(f"before Linux {STEADY[0]}.{STEADY[1]} any use of {spoiler} would switch it off")
        places = tuple(Place(*prefix(to), tuple(tcp), tuple(udp)) for to, tcp, udp in outbound)
        port = next(port for port in range(9, 65536) if all(port not in place.udp for place in places))
        _try(port, is_refused=False)
        group = os.open(own_group(unit), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for program in programs(places):
            _attach(program, group)
        os.close(group)
        _try(port, is_refused=True)
        _forbid("bpf")
    except (OSError, ValueError) as error:
        raise OSError(f"its outbound list can't be enforced on this machine: {error}") from None


def spoiler_of(release: str, cgroups: str) -> str:
    """Which mounted controller could take all sockets out of their cgroups on that kernel, at any time; empty if none.
    `cgroups` is /proc/cgroups."""
    version = tuple(int(part) for part in release.partition("-")[0].split(".")[:2] if part.isdecimal())
    mounted = [
        fields[0] for fields in map(str.split, cgroups.splitlines()[1:]) if len(fields) == 4 and fields[1] != "0"
    ]
    return next((name for name in SPOILERS if name in mounted), "") if version < STEADY else ""


def own_group(unit: str) -> str:
    """The folder of that unit's cgroup; OSError unless this process is in it, in cgroup2."""
    root = next((root for root in ROOTS if os.path.exists(f"{root}/cgroup.controllers")), "")
    with open("/proc/self/cgroup", "rb") as file:
        groups = file.read().decode("utf-8", "surrogateescape").splitlines()
    group = next((line[3:] for line in groups if line.startswith("0::")), "")
    if not root or group.rpartition("/")[2] != unit:
        raise OSError(f"{unit} has no cgroup of its own in cgroup2, but {group!r}")
    return root + group


def _attach(program: Program, group: int) -> None:
    """It stays as long as the cgroup does; other programs there, and above it, go on judging, too."""
    loaded = syscalls.bpf_program(program.kind, program.attach_type, program.code, _NAME)
    try:
        syscalls.bpf_attach(loaded, group, program.attach_type)
    finally:
        os.close(loaded)


def _try(port: int, *, is_refused: bool) -> None:
    """What is not listed: that it is refused has to come from the list. A kernel that mixes up cgroups of version 1 and
    2 takes the programs, and asks them nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as trial:
        try:
            trial.sendto(b"", (CANARY, port))
        except PermissionError:
            if not is_refused:
                raise OSError(f"it can't be tried: a packet to {CANARY} is refused by something else") from None
            return
    if is_refused:
        raise OSError(f"the kernel has the list and lets a packet to {CANARY} pass, which is not on it")


def _forbid(call: str) -> None:
    """The command has no need of what this process needed."""
    steps = (
        (_LOOK, 0, 0, 0),
        (_IF, 0, 1, syscalls.call_number(call)),
        (_ANSWER, 0, 0, _REFUSED),
        (_ANSWER, 0, 0, _ALLOWED),
    )
    syscalls.seccomp_filter(b"".join(struct.pack("=HBBI", *step) for step in steps), 0)
