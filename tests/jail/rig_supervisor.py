# SPDX-License-Identifier: Apache-2.0
"""The rig's second process, in the supervisor's place and confinement: the real loop, births and fleet, on command.

Commands are JSON lines on stdin, answers JSON lines on stdout, each answer with its command's `id`.
"""

import json
import os
import resource
import socket
import sys
from pathlib import Path
from typing import Any

from tests.jail import mutants
from tests.jail.rig import load_policy

SPAWNER_FD = 3
TICK_S = 0.005


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    mutants.install(order["mutations"])
    from tests.jail.rig_commands import Commands

    profiles = {compiled.profile.kind: compiled.profile for compiled in load_policy(order["policy"]).programs}
    Commands(profiles, socket.socket(fileno=SPAWNER_FD), order["phase"]).serve()


def answer(**content: Any) -> None:
    """One line for the test."""
    os.write(1, json.dumps(content).encode() + b"\n")


def memory_kib() -> int:
    """The most memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
