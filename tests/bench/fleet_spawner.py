# SPDX-License-Identifier: Apache-2.0
"""The agent's own spawner with the bench's driver in the supervisor's place: `fleet_spawner JOBS`.

Runs in a lab, as root. Nothing else is changed: the driver is confined as the supervisor is, the workers as theirs.
"""

import sys
from pathlib import Path

import msgspec

from policy.load import load
from policy.profile import Compiled, CompiledPolicy
from supervisor.spawner.main import serve
from tests.bench.fleet_jobs import Jobs, with_parsers_by_exec

DRIVER = "tests.bench.fleet_driver"


def with_driver(policy: CompiledPolicy) -> CompiledPolicy:
    """The same policy, except for the program that is started as the supervisor."""
    return msgspec.structs.replace(policy, programs=tuple(map(_driven, policy.programs)))


def _driven(compiled: Compiled) -> Compiled:
    if compiled.profile.kind != "supervisor":
        return compiled
    return msgspec.structs.replace(compiled, profile=msgspec.structs.replace(compiled.profile, module=DRIVER))


def main() -> int:
    """Be the spawner until SIGTERM."""
    jobs = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Jobs)
    policy = with_driver(load())
    return serve(with_parsers_by_exec(policy) if jobs.by_exec else policy, sys.argv[1])


if __name__ == "__main__":
    sys.exit(main())
