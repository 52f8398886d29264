# SPDX-License-Identifier: Apache-2.0
"""Owns a policy in which each experiment is a kind of its own: one rig can try all of them, one after the other.

Runs in the test. Compiled here and now, past the lint: what it would refuse is what is tried.
"""

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from policy.filters import program
from policy.groups import CallGroup, CallSet, stages
from policy.load import FILE_NAME, own_folder
from policy.profile import Compiled, CompiledPolicy, Profile
from policy.reading import read_policy
from policy.sources import digest, read_sources
from tests.fabric.lab import Lab
from tests.jail.rigged import HOME, OF_THE_RIG
from tests.least.grants import Grant, grants_of, without

# The module that is the supervisor of the experiments' rig.
RIG = "tests.least.rig_supervisor"
# Whom no order of the supervisor starts.
RESIDENTS = frozenset({"spawner", "supervisor", "policy-compiler"})


class Policy(NamedTuple):
    """The project's policy as its files have it now."""

    profiles: dict[str, Profile]
    groups: dict[str, CallGroup]
    sources: dict[str, bytes]

    @property
    def companions(self) -> dict[str, str]:
        """Kinds that run programs for another one, and for which."""
        return {profile.programs: kind for kind, profile in self.profiles.items() if profile.programs}

    @property
    def grants(self) -> tuple[Grant, ...]:
        return tuple(grant for _, profile in sorted(self.profiles.items()) for grant in grants_of(profile))


def read() -> Policy:
    sources = read_sources(own_folder())
    profiles, groups = read_policy(sources)
    return Policy({profile.kind: profile for profile in profiles}, groups, sources)


class Variants:
    """Profiles under names of their own; `subject` is the kind to start for each."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._filters: dict[CallSet, bytes] = {}
        self._made: list[Compiled] = []

    def add(self, profile: Profile) -> str:
        """A variant of `profile.kind`; the kind that has to be started for it: its own, or the one it runs programs
        for."""
        kind = f"{profile.kind}-x{len(self._made)}"
        self._made.append(self._compiled(msgspec.structs.replace(profile, kind=kind)))
        master = self._policy.companions.get(profile.kind)
        if master is None:
            return kind
        return self.add(msgspec.structs.replace(self._policy.profiles[master], programs=kind))

    def add_without(self, grant: Grant) -> str:
        """The variant that lacks `grant`."""
        return self.add(without(self._policy.profiles[grant.kind], grant))

    def replace(self, grant: Grant) -> None:
        """From now on the kind of `grant`, one of the residents, lacks it."""
        self._policy = self._policy._replace(
            profiles=self._policy.profiles | {grant.kind: without(self._policy.profiles[grant.kind], grant)}
        )

    def place(self, lab: Lab, name: str, supervisor: str = "supervisor.main") -> str:
        """All of them beside the undisturbed ones, in a folder of the lab; its path there. `supervisor` is the module
        that runs in the supervisor's place."""
        folder = lab.path(f"{HOME}/{name}")
        for part in ("calls", "profiles"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for path, content in self._policy.sources.items():
            (folder / path).write_bytes(content)
        plain = [
            self._compiled(_rigged(profile, supervisor) if kind == "supervisor" else profile)
            for kind, profile in self._policy.profiles.items()
        ]
        whole = CompiledPolicy(digest(self._policy.sources), os.uname().machine, (*plain, *self._made))
        (folder / FILE_NAME).write_bytes(msgspec.msgpack.encode(whole))
        return f"{HOME}/{name}"

    def _compiled(self, profile: Profile) -> Compiled:
        startup, locked = stages(profile, self._policy.profiles.values(), self._policy.groups)
        return Compiled(profile, self._filter(startup), self._filter(locked))

    def _filter(self, calls: CallSet) -> bytes:
        if calls not in self._filters:
            self._filters[calls] = program(calls, "variant")
        return self._filters[calls]


def _rigged(profile: Profile, module: str) -> Profile:
    """The supervisor's with another module; one that is a rig's may ask what the agent's does not."""
    names = profile.startup_calls.names if module == profile.module else (*profile.startup_calls.names, *OF_THE_RIG)
    calls = msgspec.structs.replace(profile.startup_calls, names=names)
    return msgspec.structs.replace(profile, module=module, startup_calls=calls)


def by_kind(grants: Iterable[Grant]) -> Mapping[str, list[Grant]]:
    found: dict[str, list[Grant]] = {}
    for grant in grants:
        found.setdefault(grant.kind, []).append(grant)
    return found
