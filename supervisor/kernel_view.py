# SPDX-License-Identifier: Apache-2.0
"""Owns what the kernel says of a process in /proc that anyone may read, and its comparison with a policy.

Used by the supervisor and, for every thread, by the verifier. It shares no code with the jail that it checks.
"""

import os

from policy import capability
from policy.profile import Profile

# What confinement and the worker's own lock put in force, on top of those under which the agent was started.
OWN_FILTERS = 2
# Not a deviation: whoever finds this asks for the exit.
GONE = "the process is gone"


def read(path: str) -> str:
    """The whole of a small file of /proc."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
        return b"".join(pieces).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def status_fields(text: str) -> dict[str, str]:
    """Name -> value of /proc/PID/status, blanks made single."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: " ".join(value.split()) for name, _, value in pairs}


def due_filters() -> int:
    """How many system-call filters a worker has: ours, and what it inherits from the spawner, our parent, which a
    service manager or a container may have put under some."""
    return int(status_fields(read(f"/proc/{os.getppid()}/status")).get("Seccomp_filters", "0")) + OWN_FILTERS


def credential_mismatches(status: dict[str, str], uid: int, profile: Profile, filters: int) -> list[str]:
    """How a process' or thread's ids, capability sets, privilege lock and number of filters differ from `profile`."""
    mask = f"{capability.mask(profile.capability_names):016x}"
    wanted = {
        "Uid": " ".join([str(uid)] * 4),
        "Gid": " ".join([str(uid)] * 4),
        "Groups": "",
        "CapInh": mask,
        "CapPrm": mask,
        "CapEff": mask,
        "CapBnd": mask,
        "CapAmb": f"{capability.mask(profile.ambient_names):016x}",
        "NoNewPrivs": "1",
        "Umask": "0077",
        "Seccomp": "2",
        "Seccomp_filters": str(filters),
    }
    return [
        f"{name} is {status.get(name, 'absent')!r}, policy says {value!r}"
        for name, value in wanted.items()
        if status.get(name) != value
    ]


def mismatches(pid: int, uid: int, profile: Profile) -> list[str]:
    """What differs for the process `pid`, as far as it can be read without privilege; empty when nothing does."""
    try:
        found = credential_mismatches(status_fields(read(f"/proc/{pid}/status")), uid, profile, due_filters())
        if f"/{profile.kind}." not in read(f"/proc/{pid}/cgroup"):
            found.append("not in a cgroup of its own")
    except (FileNotFoundError, ProcessLookupError):
        return [GONE]
    return found
