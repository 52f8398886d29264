# SPDX-License-Identifier: Apache-2.0
"""The rig's first process: the real spawner, with the policy and the mutants that a test asks for.

Runs in a lab as `python -m tests.jail.rig ORDER`, ORDER being a JSON file (`Rig` in rigged.py writes it).
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from tests.jail import mutants


def main() -> int:
    """Be the spawner; the policy's supervisor is rig_supervisor."""
    order = json.loads(Path(sys.argv[1]).read_text())
    mutants.install(order["mutations"])
    for name, source in order["modules"].items():
        module: Any = import_module(source)
        module.EARLY = order["early"]
        sys.modules[name] = module
    policy = load_policy(order["policy"])
    if order["granted"]:
        messages: Any = import_module("ipc.messages")
        grants = [
            messages.WireGrant(f"Vendor.{number}", ("GET",), ("/a",), "So that one may be opened.", cgroup)
            for number, cgroup in enumerate(order["granted"])
        ]
        policy = msgspec.structs.replace(policy, wireserver=tuple(grants))
    spawner: Any = import_module("supervisor.spawner.main")
    return int(spawner.serve(policy, sys.argv[1]))


def load_policy(folder: str) -> Any:
    """The compiled policy in `folder`, for the installation that this is."""
    load: Any = import_module("policy.load")
    placeholders: Any = import_module("policy.placeholders")
    places = placeholders.installation(
        sys.prefix, sys.executable, json.__file__.replace("/json/", "/"), load.own_folder()
    )
    return load.load(folder, places=places)


if __name__ == "__main__":
    sys.exit(main())
