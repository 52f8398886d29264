# SPDX-License-Identifier: Apache-2.0
"""Owns the attack catalogue: its shape, reading policy/attacks/*.toml, and the rules that it must keep.

Runs in the process of `agent-supervisor prove` and in tests; it holds data only, and no resident process loads it.
"""

import os
import tomllib
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Literal

import msgspec

from ipc.errors import ConfigError
from policy.load import own_folder
from policy.profile import Profile

# What may stop an attack. Those of DROPPABLE can be left out by `--without`; the others are not a process's own.
DROPPABLE = (
    "seccomp", "landlock", "capabilities", "user-namespace", "mount-namespace", "uts-namespace", "ipc-namespace",
    "net-namespace", "cgroup-namespace", "pid-namespace", "uid", "view", "no-new-privileges", "mdwe", "dumpable",
    "rlimits", "cgroup", "parent-death", "environment", "table", "descriptors", "message-limits",
)  # fmt: skip
ELSEWHERE = ("file-modes", "peer-check", "sequence", "decoder", "reader", "validation")
CONTROLS = (*DROPPABLE, *ELSEWHERE)

Origin = Literal["worker", "channel", "neighbour", "local user", "network", "medium", "extension"]
Value = int | str | tuple[int | str, ...]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all parts of an attack."""


class Grant(_Part, frozen=True):
    """What of a profile makes an attack its right: all that is set here has to hold.

    `path` `to` be read, listed, written, run, removed, or changed in mode and owner; one `capability`; a `family`; a
    namespace that it `shares` with the host; a system call that it may make once it is locked (`calls`); a TCP `port`
    that it may connect to; root's `uid`; a `view` of the host that is not sealed; a path of the host's that is `seen`;
    a `start` by exec, a `namespace` of its own."""

    path: str = ""
    to: Literal["read", "list", "write", "run", "remove", "change"] = "read"
    capability: str = ""
    family: str = ""
    shares: str = ""
    calls: str = ""
    uid: Literal[0] | None = None
    view: Literal["", "unsealed"] = ""
    seen: str = ""
    port: int = 0
    start: Literal["", "exec"] = ""
    namespace: Literal["", "user"] = ""


class Attack(_Part, frozen=True):
    """One case. `number` is its place in the list of sixty that every design is held against, 0 for one of our own.

    `probe` with `arguments` makes the attempt. `permitted` names errors that the kernel gives only to who may do it:
    the arguments are such that nothing is done then. `only` limits it to kinds with that transport. `absent` says why
    there is nothing to attack yet; `tested` names the test that does the same by other means."""

    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9]+(-[a-z0-9]+)*$")]
    title: Annotated[str, msgspec.Meta(min_length=10)]
    origin: Origin = msgspec.field(name="from")
    must: Literal["denied", "killed", "contained"] = "denied"
    probe: str = ""
    controls: tuple[str, ...] = ()
    number: Annotated[int, msgspec.Meta(ge=0, le=60)] = 0
    arguments: dict[str, Value] = {}
    permitted: tuple[str, ...] = ()
    granted: tuple[Grant, ...] = ()
    only: Literal["", "zmq", "packet"] = ""
    absent: str = ""
    tested: str = ""


class _File(_Part, frozen=True):
    attacks: tuple[Attack, ...]


def read_catalogue(folder: str = "") -> tuple[Attack, ...]:
    """Every attack, in the order of the list of sixty, then by file; ConfigError names the file and the field."""
    folder = folder or f"{own_folder()}/attacks"
    found: list[Attack] = []
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".toml"):
            continue
        try:
            with open(f"{folder}/{name}", "rb") as file:
                found += msgspec.convert(tomllib.load(file), _File).attacks
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise ConfigError(f"attacks/{name}", str(error)) from None
    return tuple(sorted(found, key=lambda attack: attack.number or 99))


def lint(attacks: Sequence[Attack], probes: Collection[str], capabilities: Collection[str]) -> list[str]:
    """Everything wrong with the catalogue beyond its shape, a line each."""
    ids = [attack.id for attack in attacks]
    found = [f"{name}: this id is there twice" for name in sorted(set(ids)) if ids.count(name) > 1]
    for attack in attacks:
        found += [f"{attack.id}: {problem}" for problem in _problems(attack, probes, capabilities)]
    numbers = {attack.number for attack in attacks}
    found += [f"case {number} of the sixty is missing" for number in range(1, 61) if number not in numbers]
    return found


class Reach(msgspec.Struct, frozen=True):
    """A kind's effective policy: its profile, and the system calls that it may make once it is locked."""

    profile: Profile
    calls: frozenset[str]


def granted_by(reach: Reach, grants: Iterable[Grant]) -> str:
    """The grant of a policy that makes an attack its right, in words; empty when it has none such."""
    if reach.profile.kind == "spawner":
        return EVERYTHING
    return next((words for words in (_words(reach, grant) for grant in grants) if words), "")


def applies_to(attack: Attack, profile: Profile) -> bool:
    """Whether this kind of process could try it at all."""
    if attack.absent or attack.origin == "local user" or attack.only not in {"", profile.transport}:
        return False
    # Only workers speak to the supervisor.
    return attack.origin != "channel" or profile.is_worker


def _problems(attack: Attack, probes: Collection[str], capabilities: Collection[str]) -> Iterable[str]:
    if bool(attack.probe) == bool(attack.absent):
        yield "has either a probe, or a word on why it is absent"
    if attack.probe and attack.probe not in probes:
        yield f"there is no probe {attack.probe!r}"
    if attack.probe and not attack.controls:
        yield "names no control that is meant to stop it"
    yield from (f"there is no control {name!r}" for name in attack.controls if name not in CONTROLS)
    for grant in attack.granted:
        if grant.capability and grant.capability not in capabilities:
            yield f"the kernel knows no capability {grant.capability!r}"
        if grant == Grant():
            yield "a grant without a condition grants everything"
        if grant.path and not grant.path.startswith("/"):
            yield f"the grant's path {grant.path} is not absolute"


# The spawner gives away what it has: whoever holds it holds the machine, and no case is held against it.
EVERYTHING = "the spawner's capabilities"
REACHES = {
    "read": frozenset({"ro", "rx", "rw", "tools"}),
    "list": frozenset({"ro", "rx", "rw", "tools", "remove"}),
    "write": frozenset({"rw", "tools"}),
    "run": frozenset({"rx", "tools"}),
    "remove": frozenset({"rw", "tools", "remove"}),
    # Of mode and owner, which a mount that may be written allows and Landlock does not judge.
    "change": frozenset({"rw", "tools", "remove"}),
}


def _words(reach: Reach, grant: Grant) -> str:
    """The conditions of `grant`, each with what fulfils it; empty as soon as one is not."""
    profile = reach.profile
    ports = profile.families.connect_ports
    conditions = (
        (grant.path, _path_words(profile, grant.path, REACHES[grant.to])),
        (grant.capability, grant.capability in profile.capability_names and f"capability {grant.capability}"),
        (grant.family, grant.family in profile.families.names and f"family {grant.family}"),
        (grant.shares, grant.shares not in profile.namespaces.new and f"the host's {grant.shares} namespace"),
        (grant.calls, grant.calls in reach.calls and f"call {grant.calls}"),
        (grant.port, (not ports or grant.port in ports) and f"port {grant.port}"),
        (grant.uid is not None, profile.identity.uid == 0 and "uid 0"),
        (grant.view, not _is_sealed(profile) and "the host's view, not sealed"),
        (grant.seen, _sees(profile, grant.seen) and f"{grant.seen} is there"),
        (grant.start, profile.start == grant.start and f"started by {grant.start}"),
        (grant.namespace, grant.namespace in profile.namespaces.new and "its user namespace is its uid's"),
    )
    words = [words for asked, words in conditions if asked]
    return ", ".join(map(str, words)) if all(words) else ""


def _is_sealed(profile: Profile) -> bool:
    """Whether its mount tree is not the host's as it is: whoever may write all sees all (jail/sealed_tree.py)."""
    everything = any(grant.path == "/" and grant.access in REACHES["write"] for grant in profile.paths)
    return profile.view == "own" or ("mount" in profile.namespaces.new and not everything)


def _sees(profile: Profile, path: str) -> bool:
    return profile.view == "host" and not _hiding(profile, path)


def _hiding(profile: Profile, path: str) -> str:
    """The folder, with a slash behind it, of which a sealed tree shows what is named alone, if `path` is in one."""
    if profile.view == "own" or not _is_sealed(profile):
        return ""
    return next((f"{each}/" for each in ("/run", *profile.hidden) if f"{path}/".startswith(f"{each}/")), "")


def _path_words(profile: Profile, path: str, accesses: frozenset[str]) -> str:
    hiding = _hiding(profile, path)
    for grant in profile.paths:
        if hiding and not f"{grant.path}/".startswith(hiding):
            continue
        if grant.access in accesses and (path == grant.path or path.startswith(f"{grant.path.rstrip('/')}/")):
            return f"path {grant.path} {grant.access}"
    return ""
