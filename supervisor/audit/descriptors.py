# SPDX-License-Identifier: Apache-2.0
"""Owns telling what a process holds open, as types that a policy names, and the families of its sockets.

Links and tables of /proc tell it, but for sockets that are in no table, not being connected: of these it has a
descriptor of its own for an instant.
"""

import os
import re
import socket
import stat

import msgspec

from supervisor.audit import calls, proc

# Tables of /proc/PID/net: the family, and in which column the socket's inode stands.
_TABLES = {
    "unix": ("unix", 6),
    "tcp": ("inet", 9),
    "tcp6": ("inet6", 9),
    "udp": ("inet", 9),
    "udp6": ("inet6", 9),
    "udplite": ("inet", 9),
    "udplite6": ("inet6", 9),
    "raw": ("inet", 9),
    "raw6": ("inet6", 9),
    "icmp": ("inet", 9),
    "icmp6": ("inet6", 9),
    "packet": ("packet", 8),
    "netlink": ("netlink", 9),
}
_ANONYMOUS = {
    "eventpoll": "epoll",
    "pidfd": "pidfd",
    "eventfd": "eventfd",
    "inotify": "inotify",
    "bpf_link": "bpf-link",
}
_FAMILIES = {socket.AF_UNIX: "unix", socket.AF_INET: "inet", socket.AF_INET6: "inet6", socket.AF_NETLINK: "netlink"}
_NAMESPACE = re.compile(r"(mnt|uts|ipc|net|cgroup|pid|user|time|pid_for_children|time_for_children):\[[0-9]+\]")


class Descriptor(msgspec.Struct, frozen=True):
    """One open descriptor. `type` as a policy names it, or the kernel's word for what no policy names.

    `family` and `protocol` are a socket's ("unix", "inet"; the table it stands in), "unknown" where nothing tells."""

    number: int
    type: str
    target: str
    family: str = ""
    protocol: str = ""


def held(pid: int) -> tuple[Descriptor, ...]:
    """All that the process has open."""
    links = _links(pid)
    tables = _sockets(pid) if any(link.startswith("socket:") for link in links.values()) else {}
    found = []
    for number, link in sorted(links.items()):
        if link.startswith("socket:["):
            told = tables.get(link[len("socket:[") : -1]) or _ask(pid, number, link)
            if told is not None:
                family, protocol = told
                found.append(Descriptor(number, _socket_type(protocol), link, family, protocol))
        else:
            kind = _type(f"{proc.PROC}/{pid}/fd/{number}", link)
            if kind:
                found.append(Descriptor(number, kind, link))
    return tuple(found)


def _links(pid: int) -> dict[int, str]:
    found = {}
    for name in os.listdir(f"{proc.PROC}/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"{proc.PROC}/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def _sockets(pid: int) -> dict[str, tuple[str, str]]:
    """Inode -> family and table, in the process's own network and in the machine's, where many are made."""
    found = {}
    for whose in (1, pid):
        for table, (family, column) in _TABLES.items():
            rows = (line.split() for line in _lines(f"{proc.PROC}/{whose}/net/{table}"))
            found.update({row[column]: (family, table) for row in rows if len(row) > column})
    return found


def _ask(pid: int, number: int, link: str) -> tuple[str, str] | None:
    """Family and protocol by a descriptor of our own; None for one that was closed since it was listed."""
    try:
        descriptor = calls.descriptor_of(pid, number)
    except OSError:
        return ("unknown", "unknown") if _links(pid).get(number) == link else None
    if os.readlink(f"{proc.PROC}/self/fd/{descriptor}") != link:
        os.close(descriptor)
        return None
    with socket.socket(fileno=descriptor) as one:
        family = _FAMILIES.get(one.family, f"number {int(one.family)}")
        is_tcp = one.type == socket.SOCK_STREAM and family in {"inet", "inet6"}
        return family, "tcp" if is_tcp else f"type {int(one.type)}, protocol {one.proto}"


def _lines(table: str) -> list[str]:
    """Its rows; none where the kernel has no such table."""
    try:
        return proc.text(table).splitlines()[1:]
    except OSError:
        return []


def _socket_type(protocol: str) -> str:
    return {"unix": "unix", "tcp": "tcp", "tcp6": "tcp"}.get(protocol, "other-socket")


def _type(path: str, link: str) -> str:
    """By the link where that tells it, else by the file itself; empty for one that is gone."""
    if link.startswith("anon_inode:"):
        name = link.removeprefix("anon_inode:").strip("[]")
        return _ANONYMOUS.get(name, name)
    if _NAMESPACE.fullmatch(link):
        return "namespace"
    for begin in ("pidfd:", "pipe:", "/memfd:"):
        if link.startswith(begin):
            return begin.strip("/:")
    return _file_type(path, link)


def _file_type(path: str, link: str) -> str:
    try:
        facts = os.stat(path)
        if os.readlink(path) != link:
            return ""  # its number was given to another one meanwhile
    except FileNotFoundError:
        return ""
    if stat.S_ISCHR(facts.st_mode) and facts.st_rdev == os.makedev(1, 3):
        return "null"
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "unix"}
    return kinds.get(stat.S_IFMT(facts.st_mode), "device")
