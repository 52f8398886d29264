# SPDX-License-Identifier: Apache-2.0
"""Owns what a VM looks like once it is provisioned, so that two of them can be compared: files, folders, processes.

Runs in the test. What must differ between two boots (hashes, keys) is found by comparing two undisturbed ones.
"""

import hashlib
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from supervisor.audit_log_chain import HEAD_SUFFIX
from supervisor.journal import replay
from supervisor.layout import Layout
from supervisor.records import State
from tests.fabric.overlay import Change
from tests.fabric.scene import Scene

# Logs tell of the kills as well; the journal is read, not compared byte by byte.
AUDIT_LOG = Layout().audit_log
TOLD_OTHERWISE = (Layout().log, Layout().journal, AUDIT_LOG, f"{AUDIT_LOG}{HEAD_SUFFIX}")
# What the account tools keep of the state before their last change: how many changes there were may differ.
BEFORE_IT = re.compile(r"^/etc/\w+-$")
# Named by the moment in which they were written: how many there are depends on the number of starts.
OF_A_MOMENT = re.compile(r"^/var/lib/waagent/history/.|^/var/lib/agent-supervisor/telemetry.")
# Each host makes certificates of its own.
THUMBPRINT = re.compile(r"[0-9A-F]{40}")
CHANCE = re.compile(rb"[\w+/=$.-]{22,}|\d+")
KEY = b"-----BEGIN "
MEMORY_ONLY = ("/run", "/tmp", "/dev/shm")
OUR_OWN = "/run/fabric"


@dataclass(frozen=True)
class EndState:
    """`facts`: path or other subject -> kind, mode, owner. `contents`: path -> digest; `shapes`: the same without words
    that chance makes. `journal` is what its records add up to."""

    facts: dict[str, str]
    contents: dict[str, str]
    shapes: dict[str, str]
    journal: State


def end_state(scene: Scene) -> EndState:
    """As it is now; the agent runs."""
    facts, contents, shapes = {}, {}, {}
    for change in scene.lab.changed():
        if OF_A_MOMENT.match(change.path):
            continue
        name = THUMBPRINT.sub("THUMBPRINT", change.path)
        facts[name] = f"{change.kind} {_mode(change)} {change.uid}:{change.gid}"
        if stat.S_ISREG(change.mode) and change.path not in TOLD_OTHERWISE and not BEFORE_IT.match(change.path):
            content = scene.lab.path(change.path).read_bytes()
            contents[name] = _digest(content)
            if change.path.endswith(".pub"):
                # Its comment has the machine's name of that moment, and makers that were killed often come later.
                content = content.rpartition(b" ")[0]
            shapes[name] = "a key" if KEY in content else _digest(CHANCE.sub(b"?", content))
    facts |= dict(_in_memory(scene)) | dict(_groups(scene)) | {"processes": _processes(scene)}
    return EndState(facts, contents, shapes, journal_of(scene))


def _mode(change: Change) -> str:
    """A backup's mode depends on which tool made it last; who may not read it counts all the same."""
    if BEFORE_IT.match(change.path):
        return "secret" if "shadow" in change.path and not change.mode & 0o007 else "backup"
    return stat.filemode(change.mode)


def journal_of(scene: Scene) -> State:
    """What the journal says now; FileNotFoundError before there is one."""
    return replay(scene.lab.path(Layout().journal).read_bytes()).state


def differences(found: EndState, wanted: EndState, other: EndState) -> list[str]:
    """How `found` differs from `wanted`; what differs between that and `other`, which is right as well, is chance."""
    compared = [
        *_unlike("", found.facts, wanted.facts, other.facts),
        *_unlike("the content of ", found.contents, wanted.contents, other.contents),
        *_unlike("the shape of ", found.shapes, wanted.shapes, other.shapes),
    ]
    # A step whose outcome nobody came to write down is not taken again when the facts show that it was.
    if found.journal.steps.keys() != wanted.journal.steps.keys():
        compared.append(f"the journal's steps are {list(found.journal.steps)}, not {list(wanted.journal.steps)}")
    outcome, due = (_ends(journal) for journal in (found.journal, wanted.journal))
    if outcome != due:
        compared.append(f"the journal ends with {outcome}, not {due}")
    return compared


def _ends(journal: State) -> tuple[object, ...]:
    run = journal.goal_state
    goal_state = (run.id, run.ended, run.code) if run is not None else None
    return (journal.begun, journal.finished, journal.ready, journal.failed, journal.staged, goal_state)


def keys_unlike_reported(scene: Scene) -> list[str]:
    """Host keys in their place that are no pair, or not those whose fingerprints were told."""
    reported = scene.log()
    publics = scene.lab.run(["find", "/etc/ssh", "-name", "ssh_host_*_key.pub"]).stdout.split()
    prints = [scene.lab.output("ssh-keygen", "-lf", path).split()[1] for path in publics]
    found = [f"the fingerprint {one} was not told" for one in prints if one not in reported]
    for path in publics:
        private = scene.lab.output("ssh-keygen", "-y", "-f", path.removesuffix(".pub")).split()[1]
        if private not in scene.lab.read(path).decode():
            found.append(f"{path} is not the public half of its key")
    return found or ([] if prints else ["there are no host keys"])


def _unlike(what: str, found: dict[str, str], wanted: dict[str, str], other: dict[str, str]) -> Iterator[str]:
    for name in sorted(found.keys() | wanted.keys()):
        allowed = (wanted.get(name), other.get(name))
        if found.get(name) not in allowed and allowed[0] == allowed[1]:
            yield f"{what}{name}: {found.get(name, 'absent')}, undisturbed {allowed[0] or 'absent'}"


def _in_memory(scene: Scene) -> Iterator[tuple[str, str]]:
    """What stands in /run and the like, which the overlay doesn't have."""
    for top in MEMORY_ONLY:
        for path in sorted(scene.lab.path(top).rglob("*")):
            name = f"/{path.relative_to(scene.lab.path('/'))}"
            if not name.startswith(OUR_OWN):
                facts = path.lstat()
                yield name, f"{stat.filemode(facts.st_mode)} {facts.st_uid}:{facts.st_gid}"


def _groups(scene: Scene) -> Iterator[tuple[str, str]]:
    """The agent's cgroups."""
    for name, top in scene.lab.cgroups.items():
        for folder in Path(top, scene.agent_cgroup).rglob("*"):
            if folder.is_dir():
                yield f"cgroup {name}: {folder.relative_to(top)}", "present"


def _processes(scene: Scene) -> str:
    """Everybody in the lab, by what was started."""
    return "\n".join(sorted(" ".join(process.argv[:5]) or process.name for process in scene.lab.processes()))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
