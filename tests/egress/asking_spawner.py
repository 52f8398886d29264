# SPDX-License-Identifier: Apache-2.0
"""The agent's own spawner with `asking` in the supervisor's place: `asking_spawner ask|compare|move`.

Runs in a lab, as root. It never tires of starting it again, and does so at once.
"""

import sys
from importlib import import_module
from typing import Any

import msgspec

from policy.load import load
from policy.profile import Compiled
from tests.jail.mutants import Mutation, install

TIRELESS = (
    Mutation("supervisor.restarts", "deaths: int = 5", "deaths: int = 1_000_000"),
    Mutation("supervisor.restarts", "longest_s: float = 30.0", "longest_s: float = 0.01"),
)
KIND, DRIVER = "supervisor", "tests.egress.asking"


def _driven(compiled: Compiled) -> Compiled:
    profile = compiled.profile
    return (
        compiled
        if profile.kind != KIND
        else msgspec.structs.replace(compiled, profile=msgspec.structs.replace(profile, module=DRIVER))
    )


def main() -> int:
    """Be the spawner until SIGTERM."""
    install(TIRELESS)
    policy = load()
    policy = msgspec.structs.replace(policy, programs=tuple(map(_driven, policy.programs)))
    spawner: Any = import_module("supervisor.spawner.main")
    status: int = spawner.serve(policy, sys.argv[1])
    return status


if __name__ == "__main__":
    sys.exit(main())
