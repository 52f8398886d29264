# SPDX-License-Identifier: Apache-2.0
"""Owns what a process is held against: its policy, and the machine that it runs on; data, and small questions."""

import os

import msgspec

from policy.profile import Compiled, Profile
from supervisor.audit import bpf, calls
from supervisor.audit.facts import Root
from supervisor.audit.hierarchies import Hierarchy


class Machine(msgspec.Struct, frozen=True):
    """The machine as its first process has it. `program` is the installed interpreter; `absent` the mechanisms that
    this kernel does not have; `landlock` its version of Landlock; `groups` the agent's own, by hierarchy."""

    namespaces: dict[str, str]
    root: Root
    program: tuple[int, int]
    hierarchies: tuple[Hierarchy, ...]
    groups: dict[str, str]
    absent: frozenset[str]
    landlock: int


class Expected(msgspec.Struct, frozen=True):
    """One process. `source` names the files of its policy; `place` is its group below the agent's own; `above` how many
    filters its parent handed on to it, and `handed_on` these filters themselves, newest first, where they are known.

    `leads`: the only paths that its mounts may lead to, None where it sees all of the machine's; `whole` are folders in
    which there may be any."""

    compiled: Compiled
    source: str
    name: str
    uid: int
    place: str
    spawner: int
    above: int
    machine: Machine
    handed_on: tuple[bytes, ...] | None = None
    leads: tuple[str, ...] | None = None
    whole: tuple[str, ...] = ()

    @property
    def profile(self) -> Profile:
        return self.compiled.profile

    def where(self, key: str) -> str:
        """The place in the policy that says so."""
        return f"{self.source}: {key}"

    @property
    def is_spawner(self) -> bool:
        return self.profile.kind == "spawner"

    @property
    def own_filters(self) -> tuple[bytes, ...]:
        """What it has put upon itself, the newest first."""
        locked = self.compiled.locked_filter
        return (locked,) if self.is_spawner else (locked, self.compiled.startup_filter)

    @property
    def runs_programs(self) -> bool:
        """Whether its own final filter lets it start any."""
        return runs_programs(self.compiled)


def runs_programs(compiled: Compiled) -> bool:
    """Whether the kind's final filter lets it start a program."""
    number = calls.number("execve")
    return number is not None and bpf.allows(compiled.locked_filter, os.uname().machine, number)
