# SPDX-License-Identifier: Apache-2.0
"""Owns what the bench asks of its driver in a lab, what comes back, and the one change of policy that it may ask for.

Imported by the measuring side, the bench's spawner and the driver alike: it must stay small.
"""

from importlib import import_module
from typing import Any

import msgspec

from policy.groups import stages
from policy.load import own_folder
from policy.profile import Compiled, CompiledPolicy, Profile
from policy.reading import read_policy
from policy.sources import read_sources

KIND = "parser"
EXEC_PATTERN = "vault"
READ_IN = "read in "


class Jobs(msgspec.Struct, frozen=True):
    """What to measure, how often; paths as the lab has them. `long_medium` keeps a parser busy for long enough to be
    killed at it. `by_exec`: parsers are programs of their own. `unconfined`: nothing is taken from a worker, for
    comparison. Results go to `results` as JSON (Timings)."""

    medium: str
    long_medium: str
    results: str
    starts: int = 0
    kills: int = 0
    parses: int = 0
    by_exec: bool = False
    unconfined: bool = False


class Timings(msgspec.Struct):
    """Seconds. `answering`: asked for to its first word; `verified`: to trusted, ready for work; `again`: from the kill
    to its replacement's first word; `replaced`: to that one's being verified with the job at hand; `parsed`: a job,
    from asked for to the answer; `read`: a verifier's look at a worker and its policy."""

    answering: tuple[float, ...] = ()
    verified: tuple[float, ...] = ()
    again: tuple[float, ...] = ()
    replaced: tuple[float, ...] = ()
    parsed: tuple[float, ...] = ()
    read: tuple[float, ...] = ()
    problem: str = ""


def with_parsers_by_exec(policy: CompiledPolicy, *, filtered: bool = False) -> CompiledPolicy:
    """The same policy, but parsers are started as the vault is: by exec, with the files that an interpreter needs, and
    over the packet socket, the one channel that an exec'd worker has. `filtered`: with the filter of its start, which
    only the spawner needs and can compile."""
    vault = next(compiled for compiled in policy.programs if compiled.profile.kind == EXEC_PATTERN)

    def changed(compiled: Compiled) -> Compiled:
        profile = compiled.profile
        if profile.kind != KIND:
            return compiled
        profile = msgspec.structs.replace(
            profile,
            start="exec",
            transport="packet",
            preload=(),
            paths=vault.profile.paths,
        )
        return msgspec.structs.replace(compiled, profile=profile, startup_filter=_starts_by_exec() if filtered else b"")

    return msgspec.structs.replace(policy, programs=tuple(map(changed, policy.programs)))


def _starts_by_exec() -> bytes:
    """What an exec'd parser may call at its start: what its pattern may, and what its own work needs."""
    profiles, groups = read_policy(read_sources(own_folder()))
    pattern, own = (
        stages(next(each for each in profiles if each.kind == kind), profiles, groups)[0]
        for kind in (EXEC_PATTERN, KIND)
    )
    allowed = own.allowed | pattern.allowed
    only = tuple(entry for entry in (*own.only, *pattern.only) if entry.name not in allowed)
    both = msgspec.structs.replace(own, allowed=allowed, enosys=frozenset(), only=tuple(dict.fromkeys(only)))
    filters: Any = import_module("policy.filters")
    program: bytes = filters.program(both, "the bench")
    return program


def profiles(policy: CompiledPolicy) -> dict[str, Profile]:
    """Every kind's profile."""
    return {compiled.profile.kind: compiled.profile for compiled in policy.programs}
