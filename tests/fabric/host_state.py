# SPDX-License-Identifier: Apache-2.0
"""Owns the answer to "is the machine as before": facts about the host that no test may change. Only reads."""

import contextlib
import hashlib
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fabric import cgroups

# Written by programs of the host itself while it lives, whether or not anything of ours runs.
VOLATILE = frozenset({"/etc/mtab", "/etc/resolv.conf", "/etc/ld.so.cache"})
LEFT_CGROUPS = "left cgroups"
AGENT_FOLDERS = ("/var/lib/waagent", "/var/lib/agent-supervisor", "/run/agent-supervisor", "/etc/agent-supervisor")


@dataclass(frozen=True)
class HostState:
    """Facts by topic: topic -> name -> what it was."""

    topics: dict[str, dict[str, str]]

    def differences(self, later: "HostState") -> list[str]:
        """One line for every fact that is new, gone or other in `later`; of left cgroups those that are new."""
        lines = []
        for topic, before in self.topics.items():
            after = later.topics.get(topic, {})
            for name in sorted(before.keys() | after.keys() if topic != LEFT_CGROUPS else after.keys()):
                if before.get(name) != after.get(name):
                    lines.append(f"{topic}: {name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}")
        return lines

    def count(self) -> int:
        """How many facts are compared."""
        return sum(len(facts) for facts in self.topics.values())


def snapshot() -> HostState:
    """All of it, now. Takes well under a second."""
    return HostState(
        {
            "accounts": dict(_contents("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid")),
            "host name": {"kernel": socket.gethostname()},
            "mounts": dict(_mounts()),
            LEFT_CGROUPS: dict(_left_cgroups()),
            "loop devices": dict(_loop_devices()),
            "network": dict(_network()),
            "/etc": dict(_tree(Path("/etc"))),
            "homes": dict(_listing("/home", "/root/.ssh")),
            "agent": dict(_listing(*AGENT_FOLDERS)),
        }
    )


def _contents(*paths: str) -> Iterator[tuple[str, str]]:
    for path in paths:
        if Path(path).exists():
            yield path, _digest(Path(path))


def _mounts() -> Iterator[tuple[str, str]]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        yield f"{fields[4]} #{fields[0]}", " ".join(fields[3:])


def _left_cgroups() -> Iterator[tuple[str, str]]:
    """Cgroups below ours that nobody uses, and labs' whose keeper is gone. Others come and go with others' work."""
    for hierarchy in cgroups.hierarchies():
        below = {Path(folder) for folder, _, _ in os.walk(hierarchy.own)}
        below |= set(cgroups.parent_of_lab(hierarchy).glob(f"{cgroups.PREFIX}-*"))
        for folder in below:
            is_labs = any(part.startswith(cgroups.PREFIX) for part in folder.parts)
            is_live = any(cgroups.is_live_lab(part) for part in folder.parts)
            if not is_live and (is_labs or not _is_used(folder)):
                yield str(folder), "present"


def _is_used(cgroup: Path) -> bool:
    """Is there a process in it or below it?"""
    return any(_text(Path(folder, "cgroup.procs")) for folder, _, _ in os.walk(cgroup))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _loop_devices() -> Iterator[tuple[str, str]]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        yield backing.parts[3], backing.read_text().strip()


def _network() -> Iterator[tuple[str, str]]:
    for link in Path("/sys/class/net").iterdir():
        yield f"link {link.name}", "present"
    named = Path("/run/netns")
    for space in named.iterdir() if named.is_dir() else ():
        yield f"namespace {space.name}", "present"
    yield "routes", _digest_of(Path("/proc/net/route").read_bytes())
    yield "own namespace", str(Path("/proc/self/ns/net").readlink())


def _tree(top: Path) -> Iterator[tuple[str, str]]:
    for path in (top, *top.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if str(path) not in VOLATILE:
                yield str(path), _facts(path)


def _listing(*tops: str) -> Iterator[tuple[str, str]]:
    for top in map(Path, tops):
        for path in (top, *sorted(top.iterdir())) if top.is_dir() else ():
            yield str(path), _facts(path)


def _facts(path: Path) -> str:
    facts = path.lstat()
    content = ""
    if stat.S_ISREG(facts.st_mode):
        content = f" {facts.st_mtime_ns} {_digest(path)}"
    elif stat.S_ISLNK(facts.st_mode):
        content = f" -> {path.readlink()}"
    return f"{stat.filemode(facts.st_mode)} {facts.st_uid}:{facts.st_gid}{content}"


def _digest(path: Path) -> str:
    return _digest_of(path.read_bytes())


def _digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
