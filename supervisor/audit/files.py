# SPDX-License-Identifier: Apache-2.0
"""Owns the comparison of the agent's files with what docs/architecture.md says of them: owner, mode, kind.

Looks at names and modes, opens nothing, follows no link.
"""

import grp
import os
import stat
from collections.abc import Iterator

import msgspec

from policy.profile import Compiled
from supervisor.audit.findings import Check, Finding, check
from supervisor.layout import Layout
from supervisor.wire.key_store import KEY_FILES

_DOCUMENT = "docs/architecture.md: State on disk"
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFSOCK: "socket", stat.S_IFLNK: "link"}
_OTHERS_WRITE = 0o022
_CUSTOM_DATA_LOG = "/var/log/agent-supervisor-custom-data.log"


class Rule(msgspec.Struct, frozen=True):
    """What one path has to be, if it is there. Without `modes`: any mode that lets nobody but root write."""

    path: str
    kind: str
    modes: tuple[int, ...] = ()
    uid: int = 0
    gids: tuple[int, ...] = (0,)
    needed: bool = False


def state(layout: Layout, control_group: str, kinds: dict[str, Compiled]) -> Check:
    """All state, the control socket, the folders of workers' sockets, the log."""
    found: list[Finding] = []
    for rule in (*_rules(layout, control_group), *_channels(layout, kinds)):
        found += _judge(rule)
    found += _secret_below(layout.state)
    return check("state", found)


def _rules(layout: Layout, control_group: str) -> Iterator[Rule]:
    yield Rule(layout.run, "folder", (0o755,), needed=True)
    yield Rule(layout.channels, "folder", (0o711,), needed=True)
    yield Rule(f"{layout.run}/lock", "file", (0o600,), needed=True)
    gid = _gid(control_group)
    modes = (0o600,) if gid is None else (0o600, 0o660)
    yield Rule(layout.control_socket, "socket", modes, gids=(0,) if gid is None else (0, gid), needed=True)
    yield Rule(layout.state, "folder", (0o700,), needed=True)
    yield Rule(layout.journal, "file", (0o600,))
    yield Rule(layout.credentials, "folder", (0o700,))
    for name in KEY_FILES:
        yield Rule(f"{layout.credentials}/{name}", "file", (0o600,))
    yield Rule(layout.telemetry, "folder", (0o700,))
    yield Rule(layout.transitions, "file", (0o600,))
    yield Rule(layout.lib, "folder", (0o700,))
    for name in ("provisioned", "ovf-env.xml"):
        yield Rule(f"{layout.lib}/{name}", "file", (0o600,))
    # A script that is to be executed.
    yield Rule(f"{layout.lib}/CustomData", "file", (0o600, 0o700))
    yield Rule(layout.log, "file", (0o600,))
    yield Rule(_CUSTOM_DATA_LOG, "file", (0o600,))
    yield Rule("/etc/ssh/.agent-supervisor-host-keys", "folder", (0o700,))
    yield Rule(layout.config, "file")


def _channels(layout: Layout, kinds: dict[str, Compiled]) -> Iterator[Rule]:
    """One folder a worker that speaks ZeroMQ, its own and nobody else's."""
    for name in sorted(_names(layout.channels)):
        path = f"{layout.channels}/{name}"
        kind, _, number = name.rpartition(".")
        compiled = kinds.get(kind)
        if compiled is None or not number.isdecimal():
            yield Rule(path, "nothing")
            continue
        uid = compiled.profile.identity.uid + int(number)
        # Root's until the worker's birth, and again after its end.
        owners = (uid, 0) if _is_roots(path) else (uid,)
        yield Rule(path, "folder", (0o700,), owners[-1], owners)
        yield Rule(f"{path}/s", "socket", (0o600,), owners[-1], owners)


def _judge(rule: Rule) -> Iterator[Finding]:
    try:
        facts = os.lstat(rule.path)
    except FileNotFoundError:
        if rule.needed:
            yield Finding(f"{rule.path} is not there", f"a {rule.kind}", _DOCUMENT)
        return
    kind, mode = _KINDS.get(stat.S_IFMT(facts.st_mode), "device"), stat.S_IMODE(facts.st_mode)
    if kind != rule.kind:
        yield Finding(f"{rule.path} is a {kind}", f"a {rule.kind}", _DOCUMENT)
    elif rule.modes and mode not in rule.modes:
        written = " or ".join(f"{one:04o}" for one in rule.modes)
        yield Finding(f"{rule.path} has mode {mode:04o}", written, _DOCUMENT)
    elif not rule.modes and mode & _OTHERS_WRITE:
        yield Finding(f"{rule.path} has mode {mode:04o}", "writable by root alone", _DOCUMENT)
    if facts.st_uid != rule.uid or facts.st_gid not in rule.gids:
        written = f"{rule.uid}:{' or '.join(map(str, rule.gids))}"
        yield Finding(f"{rule.path} belongs to {facts.st_uid}:{facts.st_gid}", written, _DOCUMENT)


def _secret_below(folder: str) -> Iterator[Finding]:
    """Everything in the store is root's, and nobody else's to read."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = f"{place}/{name}"
            try:
                facts = os.lstat(path)
            except FileNotFoundError:
                continue
            mode = stat.S_IMODE(facts.st_mode)
            if facts.st_uid or facts.st_gid or mode & 0o077 or stat.S_ISLNK(facts.st_mode):
                said = f"{path} is {facts.st_uid}:{facts.st_gid} {stat.filemode(facts.st_mode)}"
                yield Finding(said, "root's, and nothing for others; no link", _DOCUMENT)


def _names(folder: str) -> "list[str]":
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _is_roots(path: str) -> bool:
    try:
        return os.lstat(path).st_uid == 0
    except FileNotFoundError:
        return False


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid if name else None
    except KeyError:
        return None
