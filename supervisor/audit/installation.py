# SPDX-License-Identifier: Apache-2.0
"""Owns the look at what is installed: whoever can write it decides what root runs. Names, owners and modes alone."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator

from supervisor.audit.facts import Process
from supervisor.audit.findings import Check, Finding, check

PACKAGES = ("ipc", "policy", "supervisor", "workers")
OVERRIDES = "/etc/agent-supervisor"
_OTHERS_WRITE = 0o022


def installation(processes: Iterable[Process], project: str) -> Check:
    """The interpreter, every file that the residents run code from, our packages, the overrides: root's alone to write.

    `project` is the folder of our packages."""
    paths = {sys.executable, os.path.realpath(sys.executable), project}
    for process in processes:
        paths.update(name for protection, name in process.mappings if "x" in protection and name.startswith("/"))
    for folder in (*(f"{project}/{name}" for name in PACKAGES), OVERRIDES):
        paths.update(_below(folder))
    above = {parent for path in paths for parent in _parents(path)}
    found = [finding for path in sorted(paths | above) for finding in _judge(path)]
    return check("installation", found)


def _judge(path: str) -> Iterator[Finding]:
    """Owner and mode; a link is judged by where it leads, which is looked at as well."""
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return  # what a process runs and is no longer there, its own check tells
    # Where a sticky folder lets all write, root's files in it are root's still.
    writable = facts.st_mode & _OTHERS_WRITE and not (stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX)
    if facts.st_uid != 0 or writable:
        said = f"{path} belongs to uid {facts.st_uid}, mode {stat.S_IMODE(facts.st_mode):04o}"
        yield Finding(said, "root's, and writable by root alone", "the installation")


def _below(folder: str) -> Iterator[str]:
    for place, _, files in os.walk(folder):
        yield place
        yield from (f"{place}/{name}" for name in files)


def _parents(path: str) -> Iterator[str]:
    while path not in {"/", ""}:
        path = os.path.dirname(path)
        yield path
