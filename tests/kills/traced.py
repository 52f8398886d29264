# SPDX-License-Identifier: Apache-2.0
"""Owns a VM whose agent is traced: every start of it goes through the launcher and has its killer attached.

Runs in the test.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fabric.scene import AGENT, AGENT_LOG, Scene, spawner_pid
from tests.kills import launcher
from tests.kills.calls import program
from tests.kills.killer import Killer

FILTER = "/run/fabric/filter"


@dataclass
class TracedScene(Scene):
    """A scene with a killer in it."""

    killer: Killer | None = None

    def start_agent(self, *options: str) -> subprocess.Popen[bytes]:
        """As the scene's, with everything that it does asked for first."""
        assert self.killer is not None
        self.lab.path(FILTER).write_bytes(program())
        command = [sys.executable, "-I", "-S", str(Path(launcher.__file__)), FILTER, str(AGENT), "run", *options]
        with self.lab.path(AGENT_LOG).open("ab") as log:
            agent = self.lab.popen(command, cgroup=self.agent_cgroup, stdout=log, stderr=log)
        self.killer.attach(spawner_pid(agent))
        return agent
