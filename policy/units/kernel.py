# SPDX-License-Identifier: Apache-2.0
"""Owns what of the kernel a process may call and change, in a unit's words."""

from collections.abc import Iterator

from policy.facts import Facts
from policy.units.directive import Directive, Line, Remark, listed, yes
from policy.units.set_ids import can_set_ids

_PROT_EXEC = 4


def calls(facts: Facts) -> Iterator[Line]:
    """The list of the locked stage, in which it gets all its input; its start has another, longer one."""
    locked = facts.calls
    for name in sorted({only.name for only in locked.only if only.answer == "allow"}):
        words = "; ".join(
            dict.fromkeys(only.why for only in locked.only if only.name == name and only.answer == "allow")
        )
        yield Remark(f"{name} is judged by an argument: {words}")
    yield listed("SystemCallFilter", sorted(locked.reachable))
    if locked.otherwise == "enosys":
        yield Directive("SystemCallErrorNumber", "ENOSYS")
    elif refused := sorted(locked.enosys):
        yield Remark(f"Any other call kills it, but for these, which are answered with ENOSYS: {', '.join(refused)}.")
    yield Directive("SystemCallArchitectures", "native")
    if not facts.may("personality"):
        yield yes("LockPersonality", "System calls: personality is not among them")
    if facts.mdwe or not _makes_code(facts):
        yield yes("MemoryDenyWriteExecute")
    yield from _set_id_and_realtime(facts)


def protections(facts: Facts) -> Iterator[Line]:
    """Parts of the kernel that it can neither change nor ask."""
    if not facts.has("sys_time", "wake_alarm") and not facts.may(
        "clock_settime", "settimeofday", "adjtimex", "clock_adjtime", "stime"
    ):
        yield yes("ProtectClock", "Neither the capability nor the system calls to set a clock")
    if not facts.has("sys_module") and not facts.may("init_module", "finit_module", "delete_module"):
        yield yes("ProtectKernelModules", "Neither the capability nor the system calls to load a module")
    if not facts.has("syslog") and not facts.may("syslog") and not facts.touches("/dev/kmsg"):
        yield yes("ProtectKernelLogs", f"Neither capability nor system call; /dev/kmsg: {facts.by_view}")
    if not facts.writes("/proc/sys", "/proc/sysrq-trigger", "/sys/kernel", "/sys/devices", "/sys/module", "/sys/class"):
        yield yes("ProtectKernelTunables", facts.by_view)
    if not facts.writes("/sys/fs/cgroup"):
        yield yes("ProtectControlGroups", facts.by_view)


def _makes_code(facts: Facts) -> bool:
    """Whether the filter lets memory that was once writable become executable."""
    if facts.may("pkey_mprotect", "shmat", "remap_file_pages", "personality") or facts.calls.allowed & {
        "mmap",
        "mprotect",
    }:
        return True
    changes = [only for only in facts.calls.only if only.name == "mprotect"]
    return any(not only.mask & _PROT_EXEC or any(value & _PROT_EXEC for value in only.values) for only in changes)


def _set_id_and_realtime(facts: Facts) -> Iterator[Line]:
    if not facts.has("sys_nice"):
        yield yes("RestrictRealtime", "No CAP_SYS_NICE, and no limit raised: the kernel refuses a realtime policy")
    if can_set_ids(facts):
        return
    yield yes("RestrictSUIDSGID", "System calls: none gives a file these bits, or there is none that it could write")
