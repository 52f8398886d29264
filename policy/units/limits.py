# SPDX-License-Identifier: Apache-2.0
"""Owns a process's limits and lifetime, in a unit's words."""

from collections.abc import Iterator

from policy.facts import Facts
from policy.units.directive import Directive, Line


def limits(facts: Facts) -> Iterator[Line]:
    """Of the cgroup and of the process. The spawner has none of its own: its ceiling is the service's."""
    if not facts.locked:
        return
    given = facts.profile.limits
    yield Directive("MemoryMax", f"{given.memory_mib}M")
    yield Directive("MemorySwapMax", "0")
    yield Directive("TasksMax", str(given.pids))
    yield Directive("CPUQuota", f"{given.cpu_percent}%")
    yield Directive("CPUWeight", str(given.cpu_weight))
    yield Directive("OOMPolicy", "kill")
    yield Directive("LimitNOFILE", str(given.open_files))
    yield Directive("LimitFSIZE", f"{given.file_size_mib}M" if given.file_size_mib else "0")
    yield Directive("LimitNPROC", str(given.pids), "For uid 0 the cgroup's limit counts alone" if facts.is_root else "")
    for name in ("LimitCORE", "LimitMEMLOCK", "LimitMSGQUEUE"):
        yield Directive(name, "0")


def lifetime(facts: Facts, command: str) -> Iterator[Line]:
    """How it is started, and when it is ended."""
    life = facts.profile.lifetime
    yield Directive("Type", "oneshot" if life.kind == "one-shot" else "simple")
    yield Directive("ExecStart", command)
    yield Directive(
        "NotifyAccess",
        "none",
        "No socket of systemd's is within its reach" if not facts.touches("/run/systemd/notify") else "",
    )
    yield Directive("StandardInput", "null")
    yield Directive("StandardOutput", "null")
    if life.kind == "one-shot":
        yield Directive("TimeoutStartSec", f"{life.deadline_s:g}s")
    else:
        yield Directive("Restart", "always")
