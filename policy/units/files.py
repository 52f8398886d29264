# SPDX-License-Identifier: Apache-2.0
"""Owns the file system as a process sees it, in a unit's words."""

from collections.abc import Iterable, Iterator

from policy.facts import READING, RUNNING, WRITING, Facts
from policy.profile import PathGrant
from policy.units.directive import Directive, Line, Remark, listed, yes

_HARMLESS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_HOMES = ("/home", "/root", "/run/user")
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - asks who may reach them


def files(facts: Facts) -> Iterator[Line]:
    """Its view, what of it may be written and run, and which well-known folders are out of its reach."""
    yield from _own_view(facts) if facts.own_view else _host_view(facts)
    if facts.landlock or facts.own_view:
        yield Directive("NoExecPaths", "/", "" if facts.own_view else "Landlock judges what is run")
        if run := facts.granted(RUNNING):
            yield listed("ExecPaths", [f"-{path}" for path in run])
    yield from _homes(facts)
    if not facts.touches(*_TEMPORARY):
        yield yes("PrivateTmp", f"The host's are out of reach. {facts.by_view}")
    yield from _devices(facts)
    if not facts.sees_processes():
        own = "Its own at most" if facts.reads("/proc") else "It has no /proc"
        yield Directive("ProtectProc", "invisible", f"{own}. {facts.by_view}")
        yield Directive("ProcSubset", "pid", f"{own}. {facts.by_view}")


def _own_view(facts: Facts) -> Iterator[Line]:
    yield Remark("Its root is an empty file system with these paths bound into it.")
    yield Directive("TemporaryFileSystem", "/:ro")
    if facts.granted(frozenset({"channel"})):
        yield Directive("BindReadOnlyPaths", f"-/run/agent-supervisor/w/{facts.profile.kind}.0:/channel")
    yield from _bound(grant for grant in facts.profile.paths if grant.access != "channel" and grant.path != "/proc")
    yield Directive("ProtectSystem", "strict", "Its root is read-only but for the paths above")


def _host_view(facts: Facts) -> Iterator[Line]:
    yield from _writable(facts)
    if facts.sealed and not any(grant.path == "/run" for grant in facts.profile.paths):
        empty = ("/run", *(facts.profile.hidden if facts.is_resident else ()))
        yield Remark(f"Empty but for what is named: {', '.join(empty)}. No service's socket is there.")
        yield Directive("TemporaryFileSystem", " ".join(f"{path}:ro" for path in empty))
        within = tuple(f"{path}/" for path in empty)
        yield from _bound([grant for grant in facts.profile.paths if grant.path.startswith(within)])
    if facts.profile.hidden and not facts.is_resident:
        yield listed("InaccessiblePaths", [f"-{path}" for path in facts.profile.hidden])
    if facts.landlock:
        paths = ", ".join(facts.granted(READING))
        yield Remark(f"Landlock: it opens nothing outside {paths or 'no path at all'}. No directive says that.")


def _writable(facts: Facts) -> Iterator[Line]:
    paths = facts.granted(WRITING)
    if "/" in paths:
        return
    if not facts.changes_modes("/usr/share"):
        by = "" if facts.sealed else "Landlock judges what is written; it can change no mode and no owner"
        yield Directive("ProtectSystem", "strict", by)
        if paths:
            yield listed("ReadWritePaths", [f"-{path}" for path in paths])
    elif facts.landlock:
        yield Remark(f"Landlock: it writes in {', '.join(paths)} alone, but modes and owners Landlock does not judge.")


def _bound(grants: Iterable[PathGrant]) -> Iterator[Line]:
    for grant in sorted(grants, key=lambda grant: grant.path):
        name = "BindPaths" if grant.access in WRITING else "BindReadOnlyPaths"
        yield Directive(name, f"-{grant.path}:{grant.path}")


def _homes(facts: Facts) -> Iterator[Line]:
    if not facts.touches(*_HOMES):
        yield yes("ProtectHome", facts.by_view)
    elif not facts.writes(*_HOMES) and not facts.changes_modes(*_HOMES):
        yield Directive("ProtectHome", "read-only", facts.by_view)


def _devices(facts: Facts) -> Iterator[Line]:
    """Nodes it can open beyond those that do no harm, and whether it can make some itself."""
    makes = facts.has("mknod", "sys_rawio") or facts.may("iopl", "ioperm", "pciconfig_read", "pciconfig_write")
    if makes or not (facts.landlock or facts.own_view):
        return
    nodes = sorted({grant.path for grant in facts.profile.paths if grant.path.startswith("/dev/")} - set(_HARMLESS))
    if "/dev" in facts.granted(READING) or facts.reads("/dev/mem"):
        return
    by = f"It can make no node. Those of /dev: {facts.by_view}"
    if not nodes:
        yield yes("PrivateDevices", by)
    yield Directive("DevicePolicy", "closed", by)
    for node in nodes:
        yield Directive("DeviceAllow", f"{node} rw")
