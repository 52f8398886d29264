# SPDX-License-Identifier: Apache-2.0
"""The rig's second process, in the supervisor's place and confinement: the real loop, births and fleet, on command.

Commands are JSON lines on stdin, answers JSON lines on stdout, each answer with its command's `id`.
"""

import json
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.jail import mutants
from tests.jail.rig import load_policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.jail.rig_commands import Commands

SPAWNER_FD = 3


def serve(commands: "Callable[[], type[Commands]]") -> None:
    """Be the rig's second process, with these commands; they are loaded once the mutations are in place."""
    order = json.loads(Path(sys.argv[1]).read_text())
    mutants.install(order["mutations"])
    profiles = {compiled.profile.kind: compiled.profile for compiled in load_policy(order["policy"]).programs}
    commands()(profiles, socket.socket(fileno=SPAWNER_FD), order["phase"]).serve()


def main() -> None:
    serve(_prepared)


def _prepared() -> "type[Commands]":
    from tests.jail.rig_prepared import WithPrepared

    return WithPrepared


if __name__ == "__main__":
    main()
