# SPDX-License-Identifier: Apache-2.0
"""Owns the comparison of what the kernel enforces on a process: filters, secure bits, Landlock and more. Pure."""

import hashlib
import signal

from supervisor.audit.deep import Deep, DeepThread
from supervisor.audit.expected import Expected
from supervisor.audit.facts import Process
from supervisor.audit.findings import Check, Finding, check

_ONLY_DEEP = "only --deep sees it"
# The service itself: no workers.
RESIDENT = frozenset({"spawner", "supervisor"})
# Linux's secure bits: no root, no set-uid fixup, no keeping of capabilities, none raised; the odd ones lock them.
_NO_ROOT, _NO_FIXUP, _NO_RAISE = 1 << 0, 1 << 2, 1 << 6
_LOCKS = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 7
_NOT_FILES = ("/memfd:", "/dev/zero", "/SYSV", "[", "anon_inode:")
_LOST = " (deleted)"


def seccomp(expected: Expected, process: Process, deep: Deep | None, *, is_program: bool = False) -> Check:
    """Mode and number of filters of every thread; in depth, each of them. A program may have put more upon itself."""
    found = []
    due = expected.above + len(expected.own_filters)
    where = expected.where("locked_calls")
    more_may_be = is_program or expected.is_spawner
    for thread in process.threads:
        mode, count = thread.status.get("Seccomp", "absent"), int(thread.status.get("Seccomp_filters", "0"))
        if mode != "2" or (count < due if more_may_be else count != due):
            written = f"mode 2, {due} filters" + (" at least" if more_may_be else "")
            found.append(Finding(f"mode {mode}, {count} filters", written, where, thread.tid))
    if found or deep is None:
        return check("seccomp", found, "" if deep is not None else f"which filters these are, {_ONLY_DEEP}")
    for looked in deep.threads:
        found += _programs(expected, looked, due if is_program else None)
    if not found and any(thread.filters is None for thread in deep.threads):
        return Check("seccomp", "unseen", note=deep.why)
    return check("seccomp", found)


def _programs(expected: Expected, thread: DeepThread, oldest: int | None) -> "list[Finding]":
    """Of all its filters, or of the `oldest` so many."""
    if thread.filters is None:
        return []
    loaded = thread.filters[-oldest:] if oldest is not None else thread.filters
    found = []
    own = expected.own_filters
    for index, (program, key) in enumerate(zip(own, ("locked_calls", "startup_calls"), strict=False)):
        one = loaded[index] if index < len(loaded) else b""
        if one != program:
            said = f"filter {index} is {_told(one)}"
            found.append(Finding(said, _told(program), expected.where(key), thread.tid))
    if expected.handed_on is not None and loaded[len(own) :] != expected.handed_on:
        said = f"under its own filters are {', '.join(map(_told, loaded[len(own) :])) or 'none'}"
        written = f"the spawner's: {', '.join(map(_told, expected.handed_on)) or 'none'}"
        found.append(Finding(said, written, "policy/profiles/spawner.toml: locked_calls", thread.tid))
    return found


def _told(program: bytes) -> str:
    return f"{len(program) // 8} instructions, SHA-256 {hashlib.sha256(program).hexdigest()[:16]}"


def secure_bits(expected: Expected, deep: Deep | None) -> Check:
    """Uid 0 means nothing, no set grows, and all of that is locked."""
    if expected.is_spawner:
        return Check("secure-bits", "not-applied", note="its children lock theirs; it has to give uids away itself")
    fixup = 0 if "setuid" in expected.profile.capability_names else _NO_FIXUP
    written = _NO_ROOT | fixup | _NO_RAISE | _LOCKS
    if deep is None:
        return Check("secure-bits", "unseen", note=_ONLY_DEEP)
    found = [
        Finding(f"{thread.secure_bits:#04x}", f"{written:#04x}", expected.where("capabilities"), thread.tid)
        for thread in deep.threads
        if thread.secure_bits is not None and thread.secure_bits != written
    ]
    if not found and any(thread.secure_bits is None for thread in deep.threads):
        return Check("secure-bits", "unseen", note=deep.why)
    return check("secure-bits", found)


def landlock(expected: Expected, deep: Deep | None) -> Check:
    """Something that its policy does not grant, and that only Landlock refuses, is refused to every thread."""
    reason = _no_landlock(expected)
    if reason:
        return Check("landlock", "not-applied", note=reason)
    if "landlock" in expected.machine.absent:
        return Check("landlock", "absent", note="this kernel has no Landlock")
    if deep is None or deep.probe is None:
        why = "no act is refused by Landlock alone to a process of this policy here" if deep is not None else _ONLY_DEEP
        return Check("landlock", "unseen", note=why)
    found = [
        Finding(
            f"to {deep.probe.act} {deep.probe.what}: {'done' if thread.landlock == 0 else f'errno {thread.landlock}'}",
            "refused by Landlock",
            expected.where("paths"),
            thread.tid,
        )
        for thread in deep.threads
        if thread.landlock is not None and thread.landlock != deep.probe.refused
    ]
    if not found and any(thread.landlock is None for thread in deep.threads):
        tried = f"{deep.probe.act} {deep.probe.what}: refused before Landlock was asked"
        return Check("landlock", "unseen", note=deep.why or tried)
    return check("landlock", found)


def _no_landlock(expected: Expected) -> str:
    """Why it can't be under Landlock; empty when it can."""
    if expected.is_spawner:
        return "who is under Landlock may not mount, and its children inherit it"
    return (
        "who is under Landlock may not look at other processes"
        if "sys_ptrace" in expected.profile.capability_names
        else ""
    )


def memory(expected: Expected, process: Process, deep: Deep | None) -> Check:
    """No page both writable and executable, no mapped file that was replaced; in depth, that none can come."""
    found = []
    where = expected.where("module")
    for protection, name in process.mappings:
        if "w" in protection and "x" in protection:
            found.append(Finding(f"{name or 'memory'} is writable and executable", "never both", where))
        if "x" in protection and name.endswith(_LOST) and not name.startswith(_NOT_FILES):
            said = f"it runs {name.removesuffix(_LOST)} as it was, which has been replaced on disk"
            found.append(Finding(said, "what is installed", "the installation"))
    if deep is not None and expected.profile.kind not in RESIDENT and "mdwe" not in expected.machine.absent:
        if deep.no_writable_code is None:
            return check("memory", found) if found else Check("memory", "unseen", note=deep.why)
        if not deep.no_writable_code & 1:
            found.append(Finding("pages may become executable that were writable", "refused for good", where))
    return check("memory", found, "" if deep is not None else f"that none can come, {_ONLY_DEEP}")


def lifeline(expected: Expected, process: Process, deep: Deep | None) -> Check:
    """SIGKILL when the spawner ends."""
    if expected.is_spawner:
        return Check("lifeline", "not-applied", note="it is the first process; the service manager ends it")
    if deep is None:
        return Check("lifeline", "unseen", note=_ONLY_DEEP)
    if deep.death_signal is None:
        return Check("lifeline", "unseen", note=deep.why)
    if deep.death_signal == signal.SIGKILL:
        return check("lifeline", [])
    if "setuid" in expected.profile.capability_names and process.main.status["Uid"].split()[0] != str(expected.uid):
        return Check("lifeline", "not-applied", note="it became another uid for good, and the kernel cleared it then")
    said = f"signal {deep.death_signal} when the spawner ends"
    return check("lifeline", [Finding(said, "SIGKILL", expected.where("lifetime"))])
