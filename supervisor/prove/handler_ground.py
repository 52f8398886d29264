# SPDX-License-Identifier: Apache-2.0
"""Owns what a proof of handlers' classes lays down on the machine for its commands, and takes away again.

Runs in `prove`, as root. A folder of a handler's own, a neighbour's with settings and a key, a process without a
capability: all by names that are nobody else's. What somebody killed has left is taken away by the next one.
"""

import os
import select
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

import msgspec

from policy.profile import WORKER_UIDS
from supervisor.audit import hierarchies, processes
from supervisor.jail import capabilities
from supervisor.layout import Layout
from supervisor.prove.handler_attempts import Attempt
from supervisor.prove.handler_cases import CLASSES
from supervisor.prove.handler_within import ATTEMPTS

PREFIX = "AgentSupervisor.Prove"
NEIGHBOUR = ".Neighbour-1.0"
# Of a thumbprint that is a pid's.
_DIGITS, _ZEROS = 40, 32
_PROGRAM = b"#!/bin/sh\n"


class Ground(msgspec.Struct, frozen=True):
    """Names of this proof's: `handler`, whose folder in Lib.Dir is called so as well, `thumbprint` of its key pair.

    `environment` is what the lines of attempts name."""

    handler: str
    base: str
    thumbprint: str
    environment: Mapping[str, str]


@contextmanager
def made(layout: Layout, logs: str, python: str) -> Iterator[Ground]:
    """Until it is taken away. OSError."""
    handler = f"{PREFIX}{os.getpid()}"
    thumbprint = f"{os.getpid():040X}"
    places = (layout.lib, logs, f"{layout.run}/handlers")
    _clear(places, lambda pid: not os.path.exists(f"/proc/{pid}"))
    above = [folder for folder in (*places, layout.run) if not os.path.isdir(folder)]
    decoy = _decoy()
    try:
        _lay_down(*places, handler)
        supervisor = _supervisor(layout)
        environment = {
            "PYTHON": python,
            "LIB": layout.lib,
            "STATE": layout.state,
            "RUN": layout.run,
            "LOGS": logs,
            "BASE": f"{layout.lib}/{handler}",
            "OWN": thumbprint,
            "OTHER": f"{handler}{NEIGHBOUR}",
            "OTHER_NAME": f"{handler}{NEIGHBOUR}".rpartition("-")[0],
            "DECOY": str(decoy),
            "SUPERVISOR": str(supervisor or decoy),
            "WIRE_UID": str(WORKER_UIDS[-1]),
            **_disk(layout.state),
        }
        yield Ground(handler, environment["BASE"], thumbprint, environment)
    finally:
        os.kill(decoy, 9)
        os.waitpid(decoy, 0)
        _clear(places, lambda pid: pid == os.getpid())
        for folder in above:
            with suppress(OSError):
                os.rmdir(folder)


def write_attempts(ground: Ground, attempts: list[Attempt]) -> None:
    """For the command, which finds them in its folder. OSError."""
    _write(f"{ground.base}/{ATTEMPTS}", msgspec.json.encode(attempts), 0o600)


def _lay_down(lib: str, logs: str, orders: str, handler: str) -> None:
    """As a package is laid down, and as one that is installed beside it."""
    neighbour = f"{handler}{NEIGHBOUR}"
    for folder, mode in (
        (lib, 0o700),
        (f"{lib}/{handler}", 0o755),
        (f"{lib}/{handler}/bin", 0o755),
        (f"{lib}/{handler}/config", 0o700),
        (f"{lib}/{handler}/status", 0o700),
        (f"{lib}/{neighbour}", 0o755),
        (f"{lib}/{neighbour}/config", 0o700),
        (os.path.dirname(orders), 0o755),
        (orders, 0o700),
        (f"{orders}/{handler}", 0o700),
        (logs, 0o755),
        (f"{logs}/{neighbour.rpartition('-')[0]}", 0o755),
        (f"{logs}/{neighbour.rpartition('-')[0]}/events", 0o700),
    ):
        with suppress(FileExistsError):
            os.mkdir(folder, mode)
    _write(f"{lib}/{handler}/bin/program", _PROGRAM, 0o744)
    _write(f"{lib}/{neighbour}/config/0.settings", b"a neighbour's\n", 0o600)
    for path in (f"{lib}/{handler}.prv", f"{orders}/{handler}/neighbour.prv"):
        _write(path, b"nobody's key\n", 0o400)


def _clear(places: Iterable[str], is_meant: Callable[[int], bool]) -> None:
    """Take away what proofs of those pids have there."""
    for place in places:
        for name in os.listdir(place) if os.path.isdir(place) else ():
            pid = _whose(name)
            if pid and is_meant(pid):
                _remove(f"{place}/{name}")


def _whose(name: str) -> int:
    """The pid of the proof that has made what is called so: a folder of a handler's, a key's place, the folder of a
    command; 0 for what is none of them."""
    if name.startswith(PREFIX):
        number = name.removeprefix(PREFIX).partition(".")[0]
        return int(number) if number.isdecimal() else 0
    stem, _, end = name.partition(".")
    if end in {"crt", "prv"} and len(stem) == _DIGITS and stem.startswith("0" * _ZEROS):
        return int(stem, 16) if not stem.strip("0123456789ABCDEF") else 0
    return int(name[1:]) // len(CLASSES) if name.startswith("-") and name[1:].isdecimal() else 0


def _remove(path: str) -> None:
    """No link is followed."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _write(path: str, content: bytes, mode: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.write(file, content)
    finally:
        os.close(file)


def _decoy() -> int:
    """A process as the agent's own are: root's, without a capability, closed to its like."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            capabilities.die_with_parent()
            capabilities.limit_to(frozenset())
            capabilities.forbid_dump()
            os.write(writer, b".")
            select.poll().poll()
        finally:
            os._exit(0)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    return pid


def _supervisor(layout: Layout) -> int:
    """The one that runs; 0 where none does."""
    spawner = processes.holder(f"{layout.run}/lock")
    if spawner is None:
        return 0
    members = processes.find(spawner, hierarchies.mounted()).members
    return next((member.pid for member in members if member.kind == hierarchies.SUPERVISOR), 0)


def _disk(folder: str) -> dict[str, str]:
    """The block device that `folder` lies on, or else the first that anything is mounted from, as `DISK`; its numbers
    as `NODE`. Both empty where there is none."""
    place = folder
    while not os.path.exists(place):
        place = os.path.dirname(place)
    device = os.stat(place).st_dev
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        mounted = [line.split()[2] for line in file]
    numbers = [f"{os.major(device)}:{os.minor(device)}", *mounted]
    found = next((each for each in numbers if os.path.isdir(f"/sys/dev/block/{each}")), "")
    if not found:
        return {"DISK": "", "NODE": ""}
    name = os.path.basename(os.path.realpath(f"/sys/dev/block/{found}"))
    return {"DISK": f"/dev/{name}", "NODE": found.replace(":", " ")}
