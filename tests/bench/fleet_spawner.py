# SPDX-License-Identifier: Apache-2.0
"""The agent's own spawner with the bench's driver in the supervisor's place: `fleet_spawner JOBS`.

Runs in a lab, as root. The driver is confined as the supervisor is, the workers as theirs, unless the jobs say that
they are not to be; a verifier tells how long it looked.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from policy.load import load
from policy.profile import Compiled, CompiledPolicy
from tests.bench.fleet_jobs import READ_IN, Jobs, with_parsers_by_exec
from tests.jail.mutants import Mutation, install

# Tells how long it took, on the log that the driver reads.
TIMED = Mutation(
    "supervisor.verifier",
    "            verdict = verify(request, profiles, descriptors[0])\n",
    "            import time\n            began = time.perf_counter()\n"
    "            verdict = verify(request, profiles, descriptors[0])\n"
    f"            os.write(2, f'{READ_IN}{{time.perf_counter() - began}}\\n'.encode())\n",
)
# A worker that keeps all but its uid of what the spawner has, and finds its channel where the host has it.
UNCONFINED = (
    Mutation(
        "supervisor.spawner.child",
        "    confine(confinement)\n    gc.enable()\n",
        "    os.setresgid(*[birth.uid] * 3)\n    os.setresuid(*[birth.uid] * 3)\n    gc.enable()\n",
    ),
    Mutation("supervisor.spawner.child", "lambda: seccomp.load(locked_filter, all_threads=True)", "lambda: None"),
    Mutation(
        "supervisor.spawner.child",
        'CHANNEL_SOCKET = "/channel/s"',
        'CHANNEL_SOCKET = "/run/agent-supervisor/w/parser.0/s"',
    ),
    Mutation(
        "supervisor.spawner.process",
        '    new_pid_namespace = "pid" in birth.compiled.profile.namespaces.new\n',
        "    new_pid_namespace = False\n",
    ),
)
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
    install((TIMED, *(UNCONFINED if jobs.unconfined else ())))
    policy = with_driver(load())
    spawner: Any = import_module("supervisor.spawner.main")
    status: int = spawner.serve(with_parsers_by_exec(policy, filtered=True) if jobs.by_exec else policy, sys.argv[1])
    return status


if __name__ == "__main__":
    sys.exit(main())
