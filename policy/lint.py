# SPDX-License-Identifier: Apache-2.0
"""Owns the rules that a whole policy must keep beyond its schema; used by compiler and tests; changes nothing."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path

from ipc.errors import ConfigError
from policy import capability
from policy.call_numbers import is_here, is_known
from policy.groups import CallGroup, CallSet, stages
from policy.placeholders import LIB, NOTIFY
from policy.profile import WORKER_UIDS, Identity, Profile

MOST_LOCKED_CALLS = 60
# The start alone needs these: to bring up libzmq's threads, and to load the second filter.
START_ONLY = frozenset({"seccomp"})
# The processes that are no workers: the service itself.
RESIDENT = frozenset({"spawner", "supervisor"})
STARTING = frozenset({"execve", "execveat"})
# What runs the tenant's own program: that may have what root has, and the network is part of it.
TENANTS = frozenset({"custom-data-here-programs"})
# What puts the rule in front of the WireServer in force, which is a rule of the host's own network.
FIREWALLS = frozenset({"egress", "egress-programs", "redirect", "redirect-programs"})


def lint(profiles: Iterable[Profile], groups: Mapping[str, CallGroup]) -> list[str]:
    """Everything wrong with this policy, a line each; empty when nothing is."""
    ordered = sorted(profiles, key=lambda profile: profile.kind)
    found = list(_uid_overlaps(ordered))
    for profile in ordered:
        source = f"profiles/{profile.kind}.toml"
        try:
            startup, locked = stages(profile, ordered, groups)
        except ConfigError as error:
            found.append(str(error))
            continue
        problems = (
            *_identity(profile),
            *_capabilities(profile),
            *_network(profile),
            *_paths(profile),
            *_requests(profile),
            *_programs(profile, {other.kind: other for other in ordered}),
            *_calls(profile, startup, locked),
        )
        found += [f"{source}: {problem}" for problem in problems]
    return list(dict.fromkeys(found))


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
    own = {"mount"} if profile.kind == "supervisor" else set()
    if profile.kind in RESIDENT and (set(profile.namespaces.new) - own or (profile.hidden and not own)):
        yield "namespaces.new, hidden: the service's own processes stay in the host's, but for the supervisor's mounts"
    if profile.start_capabilities and profile.kind not in RESIDENT:
        yield "start_capabilities: are for the service's own processes"
    for name in sorted(profile.start_capability_names - set(capability.NAMES)):
        yield f"capabilities: the kernel knows no {name}"
    if len(profile.capability_names) != len(profile.capabilities):
        yield "capabilities: one is named twice"
    if profile.capabilities and profile.transport == "zmq":
        yield "capabilities: a worker that speaks ZeroMQ may hold none"


def _network(profile: Profile) -> Iterator[str]:
    """Who holds a capability is off the network, who is on it holds none; the service itself is the exception, the
    tenant's own program, and who makes the network's rules."""
    excepted = profile.kind in RESIDENT | TENANTS | FIREWALLS
    if profile.capabilities and "net" not in profile.namespaces.new and not excepted:
        yield "namespaces.new: without `net` a worker may hold no capability"


def _paths(profile: Profile) -> Iterator[str]:
    yield from _grants(profile)
    if profile.view == "own":
        if "mount" not in profile.namespaces.new:
            yield "namespaces.new: a view of its own needs `mount`"
        for access in sorted({"remove", "tools"} & {grant.access for grant in profile.paths}):
            yield f"paths: access `{access}` is for the host's view"
    if profile.hidden and not (profile.view == "host" and "mount" in profile.namespaces.new):
        yield "hidden: needs the host's view in a `mount` namespace of its own"


def _grants(profile: Profile) -> Iterator[str]:
    if profile.transport == "zmq" and all(grant.access != "channel" for grant in profile.paths):
        yield "paths: a worker that speaks ZeroMQ needs its channel"
    for grant in profile.paths:
        if grant.until != "end" and profile.kind not in RESIDENT:
            yield f"paths: {grant.path}: `until` is for the service's own processes"
        if grant.path not in {"${python}", "${project}", LIB, NOTIFY} and not _is_plain(grant.path):
            yield f"paths: {grant.path} is not absolute and plain"


def _requests(profile: Profile) -> Iterator[str]:
    """Each message once a phase, and each permit that another message mints can be had."""
    rows = [(request.message, request.phase) for request in profile.requests]
    for message, phase in sorted({row for row in rows if rows.count(row) > 1}):
        yield f"requests: {message} in phase {phase} is named twice"
    for request in profile.requests:
        if request.after and (request.after, request.phase) not in rows:
            yield f"requests: {request.message} comes after {request.after}, which is not permitted in {request.phase}"


def _programs(profile: Profile, kinds: Mapping[str, Profile]) -> Iterator[str]:
    """Who has programs run for it has a companion of its own; a companion is nothing else, and runs what it names."""
    runner = kinds.get(profile.programs)
    if profile.programs and (runner is None or not runner.is_companion):
        yield f"programs: no kind {profile.programs} runs programs for others"
    if profile.programs and profile.start == "exec":
        yield "programs: only a forked worker may have them run"
    if profile.is_companion:
        yield from _companion(profile, [other.identity for other in kinds.values() if other.programs == profile.kind])
    elif profile.runs:
        yield "runs: only a companion (module workers.programs...) starts programs"


def _companion(profile: Profile, served: list[Identity]) -> Iterator[str]:
    if len(served) != 1:
        yield f"module: a companion serves one kind, not {len(served)}"
    own = profile.identity
    if any((not own.uid, own.count) != (not other.uid, other.count) for other in served):
        yield "identity: a companion is root, or else has as many uids, as the kind that it serves"
    if profile.requests or profile.programs or profile.transport != "packet":
        yield "module: a companion is on a packet socket, without requests and without a companion"
    if not profile.runs and profile.kind not in TENANTS:
        yield "runs: names no program"


def _is_plain(path: str) -> bool:
    return path == "/" or (path.startswith("/") and not {"", ".", ".."} & set(path[1:].split("/")))


def _calls(profile: Profile, startup: CallSet, locked: CallSet) -> Iterator[str]:
    # What the spawner's children may call is judged with them.
    unknown = sorted(name for name in startup.named | locked.named if not is_known(name))
    if unknown and not profile.locked_calls.children:
        yield f"calls: no system call is named {', '.join(unknown)}"
    beyond = sorted(name for name in locked.reachable - startup.reachable if is_here(name))
    if beyond:
        yield f"locked_calls: not among the startup calls: {', '.join(beyond)}"
    if startup.otherwise == "kill" and locked.otherwise == "enosys":
        yield "locked_calls.otherwise: is milder than at the start"
    left_over = sorted(locked.reachable & START_ONLY)
    if left_over and profile.kind not in RESIDENT:
        yield f"locked_calls: only the start needs {', '.join(left_over)}"
    if profile.is_companion or profile.kind in RESIDENT:
        return
    if STARTING & locked.reachable:
        yield "locked_calls: only companions start programs"
    here = [name for name in locked.reachable if is_here(name)]
    if len(here) > MOST_LOCKED_CALLS:
        yield f"locked_calls: {len(here)} calls, a worker gets {MOST_LOCKED_CALLS}"
