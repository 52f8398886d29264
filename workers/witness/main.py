# SPDX-License-Identifier: Apache-2.0
"""Owns the answer to "which process has this TCP socket?", from /proc alone: its table of sockets, then descriptors.

Runs in the one-shot witness, which may look at any process (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH) and changes nothing.
It must never trust what a process says of itself further than to print it.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ipc.channel import Channel
from ipc.descriptors import close_all
from ipc.messages import Connector, NameConnector
from workers.runtime import serve_once

# Sockets of both families: an IPv4 address may be had through an IPv6 socket.
TABLES = ("tcp", "tcp6")
LONGEST = 512


def find(local_port: int, uid: int, proc: Path, spawner: int) -> Connector:
    """The process below `proc` that has the socket at `local_port` open, looked for in the network of `spawner`."""
    tables = [proc / str(spawner) / "net" / table for table in TABLES]
    inode = next((found for table in tables if (found := _inode(local_port, uid, table))), 0)
    if inode:
        wanted = f"socket:[{inode}]"
        for folder in _newest_first(proc):
            if _holds(folder / "fd", wanted):
                return _told(folder)
    return Connector(0)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve_once(channel, lock, {NameConnector: _on_question})


def _on_question(request: NameConnector, descriptors: tuple[int, ...]) -> Iterable[Connector]:
    close_all(descriptors)
    yield find(request.local_port, request.uid, Path("/proc"), os.getppid())


def _inode(local_port: int, uid: int, table: Path) -> int:
    """The inode number of the socket; 0 when it is gone, or has no owner any more."""
    port = f":{local_port:04X}"
    for row in table.read_bytes().decode("ascii").splitlines()[1:]:
        fields = row.split()
        if fields[1].endswith(port) and int(fields[7]) == uid and int(fields[9]):
            return int(fields[9])
    return 0


def _newest_first(proc: Path) -> list[Path]:
    """Who has just connected has often just begun."""
    return sorted((each for each in proc.iterdir() if each.name.isdigit()), key=lambda each: -int(each.name))


def _holds(folder: Path, wanted: str) -> bool:
    try:
        return any(str(each.readlink()) == wanted for each in folder.iterdir())
    except OSError:  # it has ended, or has just closed one
        return False


def _told(folder: Path) -> Connector:
    try:
        program = str((folder / "exe").readlink())
    except OSError:
        program = ""
    name, group = _read(folder / "comm"), _group(_read(folder / "cgroup"))
    return Connector(int(folder.name), name, _printable(program), group)


def _read(path: Path) -> str:
    try:
        return _printable(path.read_bytes()[: LONGEST * 4].decode("utf-8", "replace"))
    except OSError:
        return ""


def _printable(text: str) -> str:
    """Lines stay apart; everything else that could move a terminal's cursor goes."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text.strip())[:LONGEST]


def _group(text: str) -> str:
    """That of version 2, else the first."""
    lines = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    return next((path for number, _, path in lines if number == "0"), lines[0][2] if lines else "")
