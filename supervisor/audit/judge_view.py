# SPDX-License-Identifier: Apache-2.0
"""Owns the comparison of what a process sees: its namespaces, its root, its mounts. It reads links of paths alone."""

import os
from collections.abc import Iterator

from supervisor.audit.expected import Expected
from supervisor.audit.facts import Mount, Process
from supervisor.audit.findings import Check, Finding, check

_CHANNEL = "/channel"
_RUN = "/run"
_WRITING = frozenset({"rw", "tools", "remove"})


def namespaces(expected: Expected, process: Process) -> Check:
    """For every thread: its own where policy says new, the machine's everywhere else."""
    found = []
    absent = []
    machine = expected.machine
    where = expected.where("namespaces.new")
    for thread in process.threads:
        for name, link in thread.namespaces.items():
            new, own = name in expected.profile.namespaces.new, link != machine.namespaces[name]
            if new and not own and f"{name}-namespace" in machine.absent:
                absent.append(f"this machine gives no {name} namespace")
            elif new != own:
                said, written = ("its own", "the machine's") if own else ("the machine's", "its own")
                found.append(Finding(f"{name} namespace: {said}", written, where, thread.tid))
    main = process.main.namespaces
    for thread in process.threads:
        other = [name for name, link in thread.namespaces.items() if link != main[name]]
        if other:
            said = f"another {', '.join(other)} namespace than its process"
            found.append(Finding(said, "one for all threads", where, thread.tid))
    if not found and absent:
        return Check("namespaces", "absent", note=absent[0])
    return check("namespaces", found)


def mounts(expected: Expected, process: Process) -> Check:
    """The root and every mount in it."""
    profile = expected.profile
    if profile.view == "own":
        found = [*_own_root(expected, process), *_own_mounts(expected, process)]
    elif "mount" in profile.namespaces.new:
        found = [*_hosts_root(expected, process), *_sealed(expected, process), *_covered(expected, process)]
    else:
        found = list(_hosts_root(expected, process))
    return check("mounts", found)


def _own_root(expected: Expected, process: Process) -> Iterator[Finding]:
    if process.root.file == expected.machine.root.file:
        yield Finding("its root is the machine's", "a root of its own", expected.where("view"))
    elif process.root.mode & 0o022:
        yield Finding(f"its root has mode {process.root.mode:04o}", "writable for nobody else", expected.where("view"))


def _own_mounts(expected: Expected, process: Process) -> Iterator[Finding]:
    """Nothing but what is granted, with no more than is granted; the root itself can't be written."""
    accesses = {_CHANNEL if grant.access == "channel" else grant.path: grant.access for grant in expected.profile.paths}
    for mount in process.mounts:
        if mount.point != "/" and mount.point not in accesses:
            yield Finding(f"{mount.point} is mounted ({mount.kind})", "not granted", expected.where("paths"))
            continue
        access = accesses.get(mount.point, "ro")
        due = {"nosuid", "nodev"}
        due |= set() if access in {"rw", "tools"} else {"ro"}
        due |= set() if access in {"rx", "tools"} else {"noexec"}
        missing = sorted(due - mount.options)
        if missing:
            written = f"{', '.join(sorted(due))}: access is {access}"
            yield Finding(f"{mount.point} is not {', '.join(missing)}", written, expected.where("paths"))


def _hosts_root(expected: Expected, process: Process) -> Iterator[Finding]:
    if process.root.file != expected.machine.root.file:
        yield Finding("its root is another one", "the machine's", expected.where("view"))


def _sealed(expected: Expected, process: Process) -> Iterator[Finding]:
    """Read-only but for what may be written, and a /run of its own."""
    grants = expected.profile.paths
    writable = [os.path.realpath(grant.path) for grant in grants if grant.access in _WRITING]
    if "/" in writable:
        return
    # Of mounts at one place the last one counts.
    uppermost: dict[str, Mount] = {mount.point: mount for mount in process.mounts}
    for mount in uppermost.values():
        if "ro" not in mount.options and not any(_within(mount.point, path) for path in writable):
            written = f"read-only but for {', '.join(sorted(writable)) or 'nothing'}"
            yield Finding(f"{mount.point} is writable ({mount.kind})", written, expected.where("paths"))
    if process.root.run == expected.machine.root.run is not None and not any(grant.path == _RUN for grant in grants):
        yield Finding("its /run is the machine's", "an empty one", expected.where("paths"))
    emptied = (_RUN, *(expected.profile.hidden if expected.leads is not None else ()))
    for folder in emptied:
        yield from _emptied(expected, process, folder)
    for point in uppermost if expected.leads is not None else ():
        if point not in emptied and not _is_among(point, expected):
            yield Finding(f"{point} is mounted", "none of its mounts", expected.where("paths"))


def _emptied(expected: Expected, process: Process, folder: str) -> Iterator[Finding]:
    """An empty one, with what is granted in it and nothing else; to mounts in one that is covered no path leads."""
    granted = {*(grant.path for grant in expected.profile.paths), *map(os.path.realpath, expected.leads or ())}
    within = {mount.number: mount.within for mount in process.mounts}
    uppermost = next((mount for mount in reversed(process.mounts) if mount.point == folder), None)
    if folder in granted or not os.path.isdir(folder):
        return
    if uppermost is None or uppermost.kind != "tmpfs":
        yield Finding(f"its {folder} is the machine's", "an empty one", expected.where("paths"))
        return
    for mount in process.mounts:
        above: int | None = mount.within
        while above is not None and above != uppermost.number:
            above = within.get(above)
        within_whole = any(_within(mount.point, path) for path in expected.whole)
        if above is not None and mount.point not in granted and not within_whole:
            yield Finding(f"{mount.point} is mounted ({mount.kind})", "not granted", expected.where("paths"))


def _covered(expected: Expected, process: Process) -> Iterator[Finding]:
    points = {mount.point for mount in process.mounts}
    for path in expected.profile.hidden:
        if os.path.isdir(path) and path not in points:
            yield Finding(f"{path} is to be seen", "covered", expected.where("hidden"))


def _is_among(point: str, expected: Expected) -> bool:
    """Whether a mount at `point` is one on the way to what it has, or in what is there as a whole."""
    on_the_way = any(_within(path, point) for path in expected.leads or ())
    return point == "/" or on_the_way or any(_within(point, folder) for folder in expected.whole)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
