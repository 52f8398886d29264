# SPDX-License-Identifier: Apache-2.0
"""Owns what the bench asks of its driver in a lab, what comes back, and the one change of policy that it may ask for.

Imported by the measuring side, the bench's spawner and the driver alike: it must stay small.
"""

import msgspec

from policy.profile import Compiled, CompiledPolicy, Profile

KIND = "parser"
EXEC_PATTERN = "vault"


class Jobs(msgspec.Struct, frozen=True):
    """What to measure, how often; paths as the lab has them. `long_medium` keeps a parser busy for long enough to be
    killed at it. `by_exec`: parsers are programs of their own. Results go to `results` as JSON (Timings)."""

    medium: str
    long_medium: str
    results: str
    starts: int = 0
    kills: int = 0
    parses: int = 0
    by_exec: bool = False


class Timings(msgspec.Struct):
    """Seconds. `answering`: asked for to its first word; `verified`: to trusted, ready for work; `again`: from the kill
    to its replacement's first word; `replaced`: to that one's being verified with the job at hand; `parsed`: a job,
    from asked for to the answer."""

    answering: tuple[float, ...] = ()
    verified: tuple[float, ...] = ()
    again: tuple[float, ...] = ()
    replaced: tuple[float, ...] = ()
    parsed: tuple[float, ...] = ()
    problem: str = ""


def with_parsers_by_exec(policy: CompiledPolicy) -> CompiledPolicy:
    """The same policy, but parsers are started as the vault is: by exec, with the files that an interpreter needs, and
    over the packet socket, the one channel that an exec'd worker has."""
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
            startup_calls=vault.profile.startup_calls,
        )
        return msgspec.structs.replace(compiled, profile=profile, startup_filter=vault.startup_filter)

    return msgspec.structs.replace(policy, programs=tuple(map(changed, policy.programs)))


def profiles(policy: CompiledPolicy) -> dict[str, Profile]:
    """Every kind's profile."""
    return {compiled.profile.kind: compiled.profile for compiled in policy.programs}
