# SPDX-License-Identifier: Apache-2.0
"""Owns the comparison of a live worker with its policy, from the kernel's own view of every thread of it.

Runs as the verifier of a few workers that are begun together, which holds CAP_SYS_PTRACE and nothing else. It only
reads, and shares no code with the jail that it checks.
"""

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import msgspec

from ipc.channel import Channel
from ipc.descriptors import close_all
from ipc.errors import ChannelClosed
from ipc.messages import Verification, VerifyWorker, WorkerReady
from ipc.provided import Main, Provided
from policy.profile import Profile
from supervisor.kernel_view import GONE, credential_mismatches, due_filters, read, status_fields

NAMESPACE_FILES = {
    "mount": "mnt",
    "uts": "uts",
    "ipc": "ipc",
    "net": "net",
    "cgroup": "cgroup",
    "pid": "pid",
    "user": "user",
}
MAX_MISMATCHES = 64


def prepare(provided: Provided) -> Main:
    """The worker's main function, with the spawner's own policies: nothing can be read from disk any more later."""
    return partial(main, {kind: compiled.profile for kind, compiled in provided.policies.items()})


def main(profiles: Mapping[str, Profile], channel: Channel, lock: Callable[[], None]) -> None:
    """Answer one `VerifyWorker` after the other, until nobody asks."""
    lock()
    channel.send(WorkerReady())
    with suppress(ChannelClosed):
        while True:
            request, descriptors = channel.receive()
            if not isinstance(request, VerifyWorker) or len(descriptors) != 1:
                raise SystemExit(1)
            verdict = verify(request, profiles, descriptors[0])
            close_all(descriptors)
            channel.send(verdict)


def verify(request: VerifyWorker, profiles: Mapping[str, Profile], pidfd: int) -> Verification:
    """Everything that differs between process `request.pid` and its policy, and between its companion and that one's.

    `pidfd` proves that the first is still that one; the spawner ends it when its companion ends."""
    profile = profiles[request.kind]
    found, threads = _compare(Subject(request.pid, request.uid, profile, request.missing))
    if profile.programs or request.companion:
        companion = profiles.get(profile.programs)
        if companion is None or not request.companion:
            found.append(f"its companion, {profile.programs or 'which policy does not name'}, is process 0 or none")
        else:
            more, others = _compare(
                Subject(request.companion, _uid_beside(request, profile, companion), companion, request.missing)
            )
            found += [text if text == GONE else f"{companion.kind}: {text}" for text in more]
            threads += others
    if f"Pid:\t{request.pid}\n" not in read(f"/proc/self/fdinfo/{pidfd}"):
        found.append(GONE)
    return Verification(tuple(text[:1000] for text in found[:MAX_MISMATCHES]), threads)


def _uid_beside(request: VerifyWorker, profile: Profile, companion: Profile) -> int:
    """The uid of the worker's companion: root's, or of the same instance as the worker's own."""
    return companion.identity.uid and companion.identity.uid + request.uid - profile.identity.uid


class Subject(msgspec.Struct, frozen=True):
    """One process that is looked at, and what it has to be. `missing` are the mechanisms that this machine lacks."""

    pid: int
    uid: int
    profile: Profile
    missing: tuple[str, ...]


def _compare(subject: Subject) -> tuple[list[str], int]:
    """What is wrong with it, and how many threads it has."""
    folder = f"/proc/{subject.pid}"
    found: list[str] = []
    threads: list[str] = []
    try:
        threads = os.listdir(f"{folder}/task")
        for thread in threads:
            found += [f"thread {thread}: {text}" for text in _thread(f"{folder}/task/{thread}", subject)]
        found += _process(folder, subject)
    except (FileNotFoundError, ProcessLookupError):
        found.append(GONE)
    return found, len(threads)


def _thread(folder: str, subject: Subject) -> list[str]:
    """Credentials, capabilities, filters and namespaces of one thread."""
    profile = subject.profile
    found = credential_mismatches(status_fields(read(f"{folder}/status")), subject.uid, profile, due_filters())
    wanted = set(profile.namespaces.new) - {"user" for name in subject.missing if name == "user-namespace"}
    for name, file in NAMESPACE_FILES.items():
        own = os.readlink(f"{folder}/ns/{file}") != os.readlink(f"/proc/{os.getppid()}/ns/{file}")
        if own != (name in wanted):
            found.append(f"{name} namespace is {'its own' if own else 'not its own'}")
    return found


def _process(folder: str, subject: Subject) -> list[str]:
    """Dumpable, resource limits, cgroups, root and mounts of the process."""
    profile = subject.profile
    found = []
    if subject.uid and os.stat(f"{folder}/status").st_uid != 0:
        found.append("dumpable: another process of the same uid could read its memory")
    found += _limits(read(f"{folder}/limits"), profile)
    found += _cgroups(read(f"{folder}/cgroup"), profile.kind, subject.missing)
    if profile.view == "own":
        found += _view(folder, profile)
    elif "mount" in profile.namespaces.new:
        found += _sealed(folder, profile)
    if profile.hidden:
        found += _covers(folder, profile)
    return found


def _limits(text: str, profile: Profile) -> list[str]:
    """No resource limit, soft or hard, is above the policy's."""
    wanted = {
        "Max open files": profile.limits.open_files,
        "Max file size": profile.limits.file_size_mib << 20,
        "Max processes": profile.limits.pids,
        "Max core file size": 0,
        "Max locked memory": 0,
        "Max msgqueue size": 0,
    }
    rows = {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()[1:]}
    return [
        f"{name} is {' '.join(rows[name])}, policy says {value}"
        for name, value in wanted.items()
        if not all(limit.isdigit() and int(limit) <= value for limit in rows[name])
    ]


def _cgroups(text: str, kind: str, missing: tuple[str, ...]) -> list[str]:
    """In every hierarchy that limits something the process is in a group of its own kind."""
    rows = [line.split(":", 2)[1:] for line in text.splitlines()]
    unified = next((path for names, path in rows if not names), "")
    found = []
    for controller, absence in (("memory", "memory-limit"), ("pids", "pids-limit"), ("cpu", "cpu-limit")):
        path = next((path for names, path in rows if controller in names.split(",")), unified)
        if absence not in missing and f"/{kind}." not in path:
            found.append(f"not in a cgroup of its own for {controller}")
    return found


def _covers(folder: str, profile: Profile) -> list[str]:
    """Every folder that is to be hidden, and is there, has something laid over it."""
    points = {line.split()[4] for line in read(f"{folder}/mountinfo").splitlines()}
    there = [path for path in profile.hidden if os.path.isdir(f"/proc/{os.getppid()}/root{path}")]
    return [f"{path} is not covered" for path in there if path not in points]


def _view(folder: str, profile: Profile) -> list[str]:
    """The root holds only what the policy names, and only what may be written is writable."""
    allowed = {"/channel" if grant.access == "channel" else grant.path for grant in profile.paths}
    writable = {grant.path for grant in profile.paths if grant.access == "rw"} | {"/channel"}
    found = []
    # The spawner's root, not our own, which is none of the host's either.
    root, hosts = os.stat(f"{folder}/root/"), os.stat(f"/proc/{os.getppid()}/root/")
    if (root.st_dev, root.st_ino) == (hosts.st_dev, hosts.st_ino):
        found.append("its root is the host's")
    elif stat.S_IMODE(root.st_mode) & 0o022:
        found.append("its root is writable for others")
    for line in read(f"{folder}/mountinfo").splitlines():
        point, options = line.split()[4:6]
        if point != "/" and not any(point == path or point.startswith(f"{path}/") for path in allowed):
            found.append(f"mount {point} is not in the policy")
        elif "rw" in options.split(",") and point not in writable:
            found.append(f"mount {point} is writable")
    return found


def _sealed(folder: str, profile: Profile) -> list[str]:
    """Of the host's tree only what the policy lets be written is writable, and /run is another one."""
    host = f"/proc/{os.getppid()}/root"
    writable = [_resolved(grant.path, host) for grant in profile.paths if grant.access in {"rw", "tools", "remove"}]
    if "/" in writable:
        return []
    # Of mounts at the same place the last one counts.
    mounts = {fields[4]: fields[5] for fields in map(str.split, read(f"{folder}/mountinfo").splitlines())}
    found = [
        f"mount {point} is writable"
        for point, options in mounts.items()
        if "rw" in options.split(",") and not any(point == path or point.startswith(f"{path}/") for path in writable)
    ]
    open_run = any(grant.path == "/run" for grant in profile.paths)
    if not open_run and os.stat(f"{folder}/root/run/").st_dev == os.stat(f"{host}/run/").st_dev:
        found.append("its /run is the host's")
    return found


def _resolved(path: str, root: str, depth: int = 40) -> str:
    """`path` without links, as who lives in `root` sees it; the verifier's own root is another one."""
    done, rest = "", path.split("/")
    while rest:
        part = rest.pop(0)
        if part == "..":
            done = done.rpartition("/")[0]
        if part in {"", ".", ".."}:
            continue
        try:
            link = os.readlink(f"{root}{done}/{part}")
        except OSError:
            done = f"{done}/{part}"
            continue
        depth -= 1
        if depth == 0:
            return path
        done = "" if link.startswith("/") else done
        rest = [*link.split("/"), *rest]
    return done or "/"
