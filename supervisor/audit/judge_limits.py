# SPDX-License-Identifier: Apache-2.0
"""Owns the comparison of a process's groups, of their limits, and of its resource limits. Reads control files only."""

from collections.abc import Iterator

from policy.profile import Limits
from supervisor.audit.expected import Expected
from supervisor.audit.facts import Process
from supervisor.audit.findings import Check, Finding, check
from supervisor.audit.hierarchies import WORKERS, Hierarchy
from supervisor.audit.processes import below

_PERIOD_US = 100_000
CONTROLLERS = ("memory", "pids", "cpu")
Wanted = tuple[tuple[str, str], ...]


def cgroup(expected: Expected, process: Process) -> Check:
    """Every thread is in the process's own group, in every hierarchy that has the agent's groups."""
    found = []
    for thread in process.threads:
        for controllers, base in expected.machine.groups.items():
            group = thread.groups.get(controllers, "")
            if below(group, base) != expected.place:
                written = f"{base.rstrip('/')}/{expected.place}".rstrip("/") or "/"
                said = f"in {group} of {controllers or 'version 2'}"
                found.append(Finding(said, written, expected.where("kind"), thread.tid))
    return check("cgroup", found)


def limits(expected: Expected, process: Process) -> Check:
    """The group's limits are exactly the policy's, no resource limit of the process is above it."""
    if expected.is_spawner:
        return Check("limits", "not-applied", note="the service manager's limits hold for the agent as a whole")
    found = [*_resources(expected, process)]
    absent = []
    for controller in CONTROLLERS:
        hierarchy = _limiting(expected, controller)
        if hierarchy is None:
            absent.append(controller)
        else:
            found += _group(expected, controller, hierarchy)
    if found:
        return check("limits", found)
    if absent:
        return Check("limits", "absent", note=f"no cgroup hierarchy limits {', '.join(absent)} for the agent here")
    return check("limits", [])


def _limiting(expected: Expected, controller: str) -> Hierarchy | None:
    """The hierarchy that limits the agent's processes in that way."""
    for hierarchy in expected.machine.hierarchies:
        base = expected.machine.groups.get(hierarchy.controllers)
        if base is not None and hierarchy.limits(controller, f"{base.rstrip('/')}/{WORKERS}"):
            return hierarchy
    return None


def _group(expected: Expected, controller: str, hierarchy: Hierarchy) -> Iterator[Finding]:
    group = f"{expected.machine.groups[hierarchy.controllers].rstrip('/')}/{expected.place}"
    for file, written in wanted(hierarchy.version, controller, expected.profile.limits):
        value = hierarchy.value(group, file)
        # Some files exist only where swap is counted, or from a later kernel on.
        if value is not None and value != written:
            yield Finding(f"{file} is {value}", written, expected.where(f"limits ({controller})"))


def wanted(version: int, controller: str, limits: Limits) -> Wanted:
    """Control files and what has to stand in them."""
    memory = str(limits.memory_mib * 1024 * 1024)
    quota = limits.cpu_percent * _PERIOD_US // 100
    if controller == "pids":
        return (("pids.max", str(limits.pids)),)
    if controller == "memory" and version == 1:
        return ("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory)
    if controller == "memory":
        return ("memory.max", memory), ("memory.swap.max", "0")
    if version == 1:
        shares = str(max(2, limits.cpu_weight * 1024 // 100))
        return ("cpu.cfs_quota_us", str(quota)), ("cpu.cfs_period_us", str(_PERIOD_US)), ("cpu.shares", shares)
    return ("cpu.max", f"{quota} {_PERIOD_US}"), ("cpu.weight", str(limits.cpu_weight))


def _resources(expected: Expected, process: Process) -> Iterator[Finding]:
    limits = expected.profile.limits
    rows = {
        "Max open files": (limits.open_files, "limits.open_files"),
        "Max file size": (limits.file_size_mib * 1024 * 1024, "limits.file_size_mib"),
        "Max processes": (limits.pids, "limits.pids"),
        "Max core file size": (0, "limits"),
        "Max locked memory": (0, "limits"),
        "Max msgqueue size": (0, "limits"),
    }
    for name, (most, key) in rows.items():
        values = process.limits.get(name, ("unlimited", "unlimited"))
        if not all(value.isdecimal() and int(value) <= most for value in values):
            yield Finding(f"{name}: {' '.join(values)}", f"at most {most}", expected.where(key))
