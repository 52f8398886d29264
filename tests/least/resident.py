# SPDX-License-Identifier: Apache-2.0
"""The agent as a boot of an experiment starts it: the real spawner and supervisor, under a variant of the policy.

Runs in a lab as `python -m tests.least.resident FOLDER CONFIG MUTATIONS`, and where there are mutations as the
supervisor, too: it finds them where the spawner has put them.
"""

import json
import os
import sys
from importlib import import_module
from typing import Any

import msgspec

from ipc.descriptors import sealed_memfd
from tests.jail import mutants
from tests.jail.mutants import Mutation
from tests.jail.rig import load_policy

# As if an override had made this policy: the spawner hands it to the supervisor, too.
IN_FORCE = Mutation(
    "supervisor.spawner.main",
    'policy, sealed = import_module("supervisor.spawner.ruled").in_force(policy, tree, config_path)',
    'sealed = import_module("tests.least.resident").sealed(policy)',
)


# Where there are overrides, the variant's policy compiler is started for them.
OVERRIDES = "/etc/agent-supervisor/policy.d"
MUTATIONS = "/run/rig/mutations"


def main() -> int:
    """Be the spawner, or the supervisor if there is one already."""
    if os.path.exists(MUTATIONS):  # noqa: PTH110 - as the agent itself, without pathlib
        return _supervise()
    if json.loads(sys.argv[3]):
        with open(MUTATIONS, "w") as file:  # noqa: PTH123 - see above
            file.write(sys.argv[3])
    if not os.path.isdir(OVERRIDES):  # noqa: PTH112 - see above
        mutants.install((IN_FORCE,))
    policy = load_policy(sys.argv[1])
    spawner: Any = import_module("supervisor.spawner.main")
    return int(spawner.serve(policy, sys.argv[2]))


def _supervise() -> int:
    with open(MUTATIONS) as file:  # noqa: PTH123 - see above
        mutants.install(json.load(file))
    supervisor: Any = import_module("supervisor.main")
    return int(supervisor.main())


def sealed(policy: msgspec.Struct) -> int:
    """The file by which the supervisor gets it."""
    return sealed_memfd("policy", msgspec.msgpack.encode(policy))


if __name__ == "__main__":
    os._exit(main())
