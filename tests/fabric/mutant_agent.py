# SPDX-License-Identifier: Apache-2.0
"""The agent with a piece of its own source replaced: `python -m tests.fabric.mutant_agent MUTATIONS` in a lab.

MUTATIONS is JSON, a list of [module, old, new]. They hold in the spawner and whatever it forks, not in the supervisor.
"""

import json
import sys
from importlib import import_module
from typing import Any

from tests.jail import mutants


def main() -> int:
    """Be the spawner."""
    mutants.install(json.loads(sys.argv[1]))
    spawner: Any = import_module("supervisor.spawner.main")
    return int(spawner.run("/etc/waagent.conf"))


if __name__ == "__main__":
    sys.exit(main())
