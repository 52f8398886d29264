# SPDX-License-Identifier: Apache-2.0
"""Owns the rules that a whole policy must keep beyond its schema; used by compiler and tests; changes nothing."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path

from policy import capability
from policy.filters import number
from policy.groups import CallGroup, CallSet, combine
from policy.profile import WORKER_UIDS, Profile

MOST_LOCKED_CALLS = 60
# The start alone needs these: to bring up libzmq's threads, and to load the second filter.
START_ONLY = frozenset({"seccomp"})
# The processes that are no workers: the service itself.
RESIDENT = frozenset({"spawner", "supervisor"})
# What runs the tenant's own program: that may have what root has, and the network is part of it.
TENANTS = frozenset({"custom-data-here"})


def lint(profiles: Iterable[Profile], groups: Mapping[str, CallGroup]) -> list[str]:
    """Everything wrong with this policy, a line each; empty when nothing is."""
    ordered = sorted(profiles, key=lambda profile: profile.kind)
    found = list(_uid_overlaps(ordered))
    for profile in ordered:
        source = f"profiles/{profile.kind}.toml"
        startup = combine(profile.startup_calls, groups, source)
        locked = combine(profile.locked_calls, groups, source)
        problems = (
            *_identity(profile),
            *_capabilities(profile),
            *_network(profile),
            *_paths(profile),
            *_calls(profile, startup, locked, source),
        )
        found += [f"{source}: {problem}" for problem in problems]
    return found


def absent_modules(profiles: Iterable[Profile], project: Path) -> list[str]:
    """Profiles whose module, or one of whose preloaded modules of ours, has no file below `project`."""
    found = []
    for profile in profiles:
        ours = [name for name in (profile.module, *profile.preload) if name.split(".")[0] in {"supervisor", "workers"}]
        for name in ours:
            path = project.joinpath(*name.split("."))
            if not (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()):
                found.append(f"profiles/{profile.kind}.toml: there is no module {name}")
    return found


def _uid_overlaps(profiles: list[Profile]) -> Iterator[str]:
    """No two live processes share a uid, except root's."""
    for one, other in combinations([profile for profile in profiles if profile.identity.uid], 2):
        if set(_uids(one)) & set(_uids(other)):
            yield f"profiles/{other.kind}.toml: identity.uid: shares uids with {one.kind}"


def _uids(profile: Profile) -> range:
    return range(profile.identity.uid, profile.identity.uid + profile.identity.count)


def _identity(profile: Profile) -> Iterator[str]:
    uids = _uids(profile)
    if profile.identity.uid and not (uids[0] in WORKER_UIDS and uids[-1] in WORKER_UIDS):
        yield f"identity.uid: {uids[0]} to {uids[-1]} is not within {WORKER_UIDS[0]} to {WORKER_UIDS[-1]}"
    if profile.identity.uid and profile.lifetime.instances > profile.identity.count:
        yield f"lifetime.instances: {profile.lifetime.instances} need as many uids, identity.count is less"


def _capabilities(profile: Profile) -> Iterator[str]:
    for name in sorted(profile.capability_names - set(capability.NAMES)):
        yield f"capabilities: the kernel knows no {name}"
    if len(profile.capability_names) != len(profile.capabilities):
        yield "capabilities: one is named twice"
    if profile.capabilities and profile.transport == "zmq":
        yield "capabilities: a worker that speaks ZeroMQ may hold none"


def _network(profile: Profile) -> Iterator[str]:
    """Who holds a capability is off the network, who is on it holds none; the service itself is the exception, and the
    tenant's own program."""
    if profile.capabilities and "net" not in profile.namespaces.new and profile.kind not in RESIDENT | TENANTS:
        yield "namespaces.new: without `net` a worker may hold no capability"


def _paths(profile: Profile) -> Iterator[str]:
    if profile.transport == "zmq" and [grant for grant in profile.paths if grant.access == "channel"] == []:
        yield "paths: a worker that speaks ZeroMQ needs its channel"
    if profile.view == "own":
        if "mount" not in profile.namespaces.new:
            yield "namespaces.new: a view of its own needs `mount`"
        for access in sorted({"remove", "tools"} & {grant.access for grant in profile.paths}):
            yield f"paths: access `{access}` is for the host's view"
    if profile.hidden and not (profile.view == "host" and "mount" in profile.namespaces.new):
        yield "hidden: needs the host's view in a `mount` namespace of its own"
    for grant in profile.paths:
        if grant.path not in {"${python}", "${project}"} and not _is_plain(grant.path):
            yield f"paths: {grant.path} is not absolute and plain"


def _is_plain(path: str) -> bool:
    return path == "/" or (path.startswith("/") and not {"", ".", ".."} & set(path[1:].split("/")))


def _calls(profile: Profile, startup: CallSet, locked: CallSet, source: str) -> Iterator[str]:
    beyond = sorted(name for name in locked.reachable - startup.reachable if number(name, source) is not None)
    if beyond:
        yield f"locked_calls: not among the startup calls: {', '.join(beyond)}"
    if startup.otherwise == "kill" and locked.otherwise == "enosys":
        yield "locked_calls.otherwise: is milder than at the start"
    left_over = sorted(locked.reachable & START_ONLY)
    if left_over and profile.kind not in RESIDENT:
        yield f"locked_calls: only the start needs {', '.join(left_over)}"
    here = [name for name in locked.reachable if number(name, source) is not None]
    if profile.transport == "zmq" and len(here) > MOST_LOCKED_CALLS:
        yield f"locked_calls: {len(here)} calls, a worker that speaks ZeroMQ gets {MOST_LOCKED_CALLS}"
