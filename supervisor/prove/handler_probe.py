# SPDX-License-Identifier: Apache-2.0
"""Is what an attempt of a vendor's command needs and a shell can't do: one call, and an exit status.

A program by itself (`python -I -m supervisor.prove.handler_probe NAME ...`). None of its attempts changes anything but
files of its own folder: what would harm has arguments that the kernel refuses only to who may.
"""

import errno
import os
import shutil
import socket
import sys
from collections.abc import Callable

from supervisor.prove import raw

_SEIZE = 0x4206
_PATIENCE_S = 1.0
# What the kernel says of nonsense to who may ask for the real thing.
_NONSENSE = frozenset({errno.ENOEXEC, errno.EINVAL, errno.EFAULT})
_CONTROL = "Package: agent-supervisor-prove\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: nothing\n"
_SCRIPTS = {
    "ls": '#!/bin/sh\n[ -n "$(ls -A {})" ]\n',
    "unit": '#!/bin/sh\n[ -n "$(systemd-run --quiet --wait --collect --pipe -- ls -A {})" ]\n',
}


class NotReached(OSError):
    """It came through, and found nothing of what it was after."""


def keys(lib: str, own: str) -> None:
    """Private keys in `lib` that can be read and are not `own`, counted."""
    names = [name for name in os.listdir(lib) if name.endswith(".prv") and name != f"{own}.prv"]
    found = sum(1 for name in names if _has_content(f"{lib}/{name}"))
    print(found)
    if not found:
        raise NotReached(0, "no key of others")


def memory(pid: str) -> None:
    """Eight bytes of the first page that `pid` may write, which are shown to nobody."""
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as file:
        place = next((line.split("-")[0] for line in file if line.split()[1].startswith("rw")), "")
    descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    if not place or len(os.pread(descriptor, 8, int(place, 16))) != 8:
        raise NotReached(0, "no memory")


def traces(pid: str) -> None:
    """PTRACE_SEIZE stops nobody, and ends with the tracer."""
    raw.call("ptrace", _SEIZE, int(pid), 0, 0)


def connects(place: str, port: str = "") -> None:
    """To a socket of the agent's at a path, or to a port; nothing is sent."""
    kind = (socket.AF_INET, socket.SOCK_STREAM) if port else (socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with socket.socket(*kind) as ours:
        ours.settimeout(_PATIENCE_S)
        ours.connect((place, int(port)) if port else place)


def connects_as(pid: str, uid: str, place: str, port: str) -> None:
    """From the cgroup that process `pid` is in, where the rule in front of the WireServer knows the agent by it; else
    as `uid`, which is the agent's for that."""
    try:
        _join(pid)
        connects(place, port)
    except OSError:
        os.setresuid(int(uid), int(uid), int(uid))
        connects(place, port)


def _join(pid: str) -> None:
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        group = next((line[3:].strip() for line in file if line.startswith("0::")), "")
    root = next(root for root in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.isdir(root))
    with open(f"{root}{group}/cgroup.procs", "w", encoding="ascii") as members:
        members.write("0")


def appends(state: str) -> None:
    """A manifest's copy or the journal is opened for writing, and nothing is written."""
    copies = f"{state}/handlers"
    there = [f"{copies}/{name}" for name in os.listdir(copies)] if os.path.isdir(copies) else []
    for path in (*there, f"{state}/journal"):
        if os.path.isfile(path):
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC))
            return
    raise NotReached(0, "none of them is there")


def module() -> None:
    """Of one byte that is none."""
    _nonsense("init_module", "zeros", 1, "")


def reboot() -> None:
    """Without its magic numbers."""
    _nonsense("reboot", 0, 0, 0, 0)


def clock() -> None:
    """Its tick, to what it is."""
    raw.set_tick_as_it_is()


def packets() -> None:
    """One that nothing is bound to."""
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def netlink() -> None:
    """One that nothing is said to."""
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


def ring() -> None:
    """For no entry at all."""
    _nonsense("io_uring_setup", 0, "zeros")


def becomes(uid: str) -> None:
    """For this process, which ends."""
    os.setuid(int(uid))


def package(folder: str, how: str, state: str) -> None:
    """One without a file is installed into a list of packages of its own; its script looks into `state`."""
    place = f"{folder}{os.getpid()}"
    made, database = f"{place}/own/DEBIAN", f"{place}/db"
    try:
        for each in (made, *(f"{database}/{name}" for name in ("info", "triggers", "updates"))):
            os.makedirs(each)
        for path, content in (
            (f"{made}/control", _CONTROL),
            (f"{made}/postinst", _SCRIPTS[how].format(state)),
            (f"{database}/status", ""),
            (f"{database}/available", ""),
        ):
            with open(path, "w", encoding="ascii") as file:
                file.write(content)
        os.chmod(f"{made}/postinst", 0o755)  # noqa: S103 - dpkg wants it so
        _run("dpkg-deb", "--root-owner-group", "--build", f"{place}/own", f"{place}/own.deb")
        options = (f"--admindir={database}", "--log=/dev/null", "--force-all")
        _run("dpkg", *options, "--install", f"{place}/own.deb")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _run(*words: str) -> None:
    status = os.spawnvp(os.P_WAIT, words[0], words)
    if status:
        raise NotReached(0, f"{words[0]} ended with status {status}")


def _nonsense(name: str, *words: raw.Word) -> None:
    try:
        raw.call(name, *words)
    except OSError as error:
        if error.errno not in _NONSENSE:
            raise


def _has_content(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


PROBES: dict[str, Callable[..., None]] = {
    "keys": keys,
    "memory": memory,
    "traces": traces,
    "connects": connects,
    "connects-as": connects_as,
    "appends": appends,
    "module": module,
    "reboot": reboot,
    "clock": clock,
    "packets": packets,
    "netlink": netlink,
    "ring": ring,
    "becomes": becomes,
    "package": package,
}


def main(arguments: list[str]) -> int:
    """0 where it was reached."""
    name, *words = arguments
    try:
        PROBES[name](*words)
    except OSError as error:
        print(error.strerror or error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
