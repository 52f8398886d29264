# SPDX-License-Identifier: Apache-2.0
"""Owns the comparison of who a process is and what it was born with: program, ids, capabilities, environment. Pure."""

from policy import capability
from policy.profile import WORKER_UIDS
from supervisor.audit.deep import Deep
from supervisor.audit.expected import Expected
from supervisor.audit.facts import Process, Thread
from supervisor.audit.findings import Check, Finding, check

SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# What systemd and a login tell every process. Anything else may change what the interpreter loads or does.
PLAIN_ENVIRONMENT = frozenset(
    """
    PATH HOME LANG LANGUAGE USER LOGNAME SHELL PWD OLDPWD SHLVL TERM COLORTERM TZ MAIL HOSTNAME container _
    INVOCATION_ID JOURNAL_STREAM NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID SYSTEMD_EXEC_PID MEMORY_PRESSURE_WATCH
    MEMORY_PRESSURE_WRITE LISTEN_PID LISTEN_FDS LISTEN_FDNAMES SUDO_COMMAND SUDO_USER SUDO_UID SUDO_GID
    """.split()
)
SUPERVISOR_ENVIRONMENT = frozenset("NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID JOURNAL_STREAM INVOCATION_ID".split())


def program(expected: Expected, process: Process) -> Check:
    """The interpreter on disk, started as the spawner starts it, by the spawner."""
    found = []
    if process.program != expected.machine.program or process.program_link.endswith(" (deleted)"):
        said = f"{process.program_link}, another file than the interpreter that is installed"
        found.append(Finding(said, "the installed interpreter", "the installation"))
    words = process.words[1 : 1 + len(_words(expected))]
    if words != _words(expected):
        found.append(Finding(f"started with {' '.join(words)!r}", " ".join(_words(expected)), expected.where("start")))
    if not expected.is_spawner and process.parent != expected.spawner:
        found.append(
            Finding(
                f"its parent is process {process.parent}", f"the spawner, {expected.spawner}", expected.where("module")
            )
        )
    return check("program", found)


def _words(expected: Expected) -> tuple[str, ...]:
    profile = expected.profile
    if profile.kind == "supervisor":
        return ("-I", "-m", profile.module)
    if profile.start == "exec" and not expected.is_spawner:
        return ("-I", "-m", "supervisor.spawner.second_stage", profile.module)
    return ("-I", "-m", "supervisor", "run")


def identity(expected: Expected, process: Process, *, is_program: bool = False) -> Check:
    """Ids of every thread, no further group, and a umask that gives nothing to others.

    A program's umask is its own affair; so are its groups, where it may change them or has become somebody else."""
    found = []
    key = expected.where("identity.uid")
    for thread in process.threads:
        uid = _uid(expected, thread)
        due = {"Uid": " ".join([str(uid)] * 4)}
        if uid == expected.uid and not (is_program and "setgid" in expected.profile.capability_names):
            due |= {"Gid": due["Uid"], "Groups": ""}
        if not (is_program or expected.is_spawner):
            due["Umask"] = "0077"
        found += [
            Finding(f"{name} {thread.status.get(name, '')}", written or "none", key, thread.tid)
            for name, written in due.items()
            if thread.status.get(name, written) != written
        ]
    return check("identity", found)


def _uid(expected: Expected, thread: Thread) -> int:
    """The policy's; who may become somebody else may have become anybody who is no worker, without a capability."""
    real = int(thread.status["Uid"].split()[0])
    changed = "setuid" in expected.profile.capability_names and not int(thread.status["CapPrm"], 16)
    return real if changed and not expected.is_spawner and real not in WORKER_UIDS else expected.uid


def capabilities(expected: Expected, process: Process) -> Check:
    """All five sets of every thread."""
    found = []
    written = capability.mask(expected.profile.capability_names)
    for thread in process.threads:
        left_root = _uid(expected, thread) != expected.uid
        for name in SETS:
            value = int(thread.status[name], 16)
            due = written
            if expected.is_spawner and name in {"CapInh", "CapAmb"}:
                due = 0  # it gives its children what it has by forking them, not by starting programs
            if name == "CapAmb" and not expected.profile.is_companion:
                due = 0  # only a program that it starts would have them, and it starts none
            if left_root and name in {"CapPrm", "CapEff", "CapAmb"}:
                due = 0  # leaving uid 0 for good cleared these
            if value != due:
                found.append(
                    Finding(f"{name} {_named(value)}", _named(due), expected.where("capabilities"), thread.tid)
                )
    return check("capabilities", found)


def _named(mask: int) -> str:
    return " ".join(capability.names(mask)) or "none"


def no_new_privileges(expected: Expected, process: Process) -> Check:
    """On every thread."""
    name = "no-new-privileges"
    if expected.is_spawner:
        return Check(name, "not-applied", note="its policy does not ask for it; every child takes it")
    wrong = [thread for thread in process.threads if thread.status.get("NoNewPrivs") != "1"]
    where = expected.where("module")
    return check(name, [Finding("not set", "set for every process but the spawner", where, one.tid) for one in wrong])


def environment(expected: Expected, process: Process) -> Check:
    """Names alone; what a forked worker was born with is what the spawner was, though it is emptied before its work."""
    if expected.profile.kind == "supervisor":
        allowed, written = SUPERVISOR_ENVIRONMENT, " ".join(sorted(SUPERVISOR_ENVIRONMENT))
    elif expected.profile.start == "exec" and not expected.is_spawner:
        allowed, written = frozenset(), "empty"
    else:
        locale = {name for name in process.environment if name.startswith("LC_")}
        allowed, written = PLAIN_ENVIRONMENT | locale, "only what systemd or a login sets"
    strange = [name for name in process.environment if name not in allowed]
    return check("environment", [Finding(f"{name} is set", written, expected.where("start")) for name in strange])


def dumpable(expected: Expected, process: Process, deep: Deep | None) -> Check:
    """No core, no reading of its memory by another process of its uid."""
    where = expected.where("identity.uid")
    written = "not dumpable"
    if expected.uid and process.owner != 0:
        said = f"its /proc files belong to uid {process.owner}: others of that uid may read its memory"
        return check("dumpable", [Finding(said, written, where)])
    if deep is not None and deep.dumpable is not None:
        found = [Finding(f"dumpable {deep.dumpable}", written, where)] if deep.dumpable else []
        return check("dumpable", found)
    if expected.uid:
        return check("dumpable", [])
    return Check(
        "dumpable", "unseen", note=deep.why if deep is not None else "of a process of root only --deep sees it"
    )
