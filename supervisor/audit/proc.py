# SPDX-License-Identifier: Apache-2.0
"""Owns reading single files and links of /proc as plain values; interprets no policy.

Used by the audit, as root. It raises FileNotFoundError or ProcessLookupError for what is gone, and nothing else.
"""

import os
from collections.abc import Iterator

PROC = "/proc"
NAMESPACES = {
    "mount": "mnt",
    "uts": "uts",
    "ipc": "ipc",
    "net": "net",
    "cgroup": "cgroup",
    "pid": "pid",
    "user": "user",
    "time": "time",
}
GONE = (FileNotFoundError, ProcessLookupError)


def text(path: str) -> str:
    """The whole of a small file."""
    with open(path, "rb", buffering=0) as file:
        return file.read().decode("utf-8", "replace")


def status(folder: str) -> dict[str, str]:
    """Name and value of /proc/PID/status or /proc/PID/task/TID/status, blanks made single."""
    pairs = (line.partition(":") for line in text(f"{folder}/status").splitlines())
    return {name: " ".join(value.split()) for name, _, value in pairs}


def groups(folder: str) -> dict[str, str]:
    """Controllers ("memory", "cpu,cpuacct", "" for version 2) and the group's path there."""
    rows = (line.split(":", 2) for line in text(f"{folder}/cgroup").splitlines())
    return {controllers: path for _, controllers, path in rows}


def namespaces(folder: str) -> dict[str, str]:
    """Name as a policy has it, and what tells the namespace; those that this kernel has."""
    found = {}
    for name, file in NAMESPACES.items():
        try:
            found[name] = os.readlink(f"{folder}/ns/{file}")
        except FileNotFoundError:
            if not os.path.isdir(f"{folder}/ns"):
                raise
    return found


def pids() -> Iterator[int]:
    """Every process that this pid namespace shows."""
    for name in os.listdir(PROC):
        if name.isdigit():
            yield int(name)


def threads(pid: int) -> list[int]:
    """The threads of a process."""
    return sorted(int(name) for name in os.listdir(f"{PROC}/{pid}/task"))


def started(pid: int) -> int:
    """Its start, in clock ticks since boot: with the pid it names one process for good."""
    return int(text(f"{PROC}/{pid}/stat").rpartition(")")[2].split()[19])


def age_s(pid: int) -> float:
    """How long it runs."""
    uptime = float(text(f"{PROC}/uptime").split()[0])
    return uptime - started(pid) / os.sysconf("SC_CLK_TCK")


def words(pid: int, file: str) -> tuple[str, ...]:
    """The strings of /proc/PID/cmdline or environ."""
    return tuple(word for word in text(f"{PROC}/{pid}/{file}").split("\0") if word)
