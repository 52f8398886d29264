# SPDX-License-Identifier: Apache-2.0
"""Owns the demo's second half: one process killed in the middle of its work, and everything right all the same."""

import subprocess
import time
from dataclasses import dataclass

from tests.fabric.lab import Lab
from tests.fabric.outcome import judge
from tests.fabric.page import Page
from tests.fabric.scene import Scene, Wanted, image_files, kill_process, spawner_pid, supervisor_pid
from tests.fabric.waiting import WaitedInVain, until

# As the unit has it.
RESTART_S = 0.1
READY_WITHIN_S = 40.0
HIT_WITHIN_S = 15.0


@dataclass(frozen=True)
class Victim:
    """Who is killed, while `moment` (the beginning of a worker's name) is at work."""

    name: str
    moment: str


VICTIMS = (
    Victim("parser", "parser."),
    Victim("provisioning worker", "provisioning."),
    Victim("committer (account)", "account."),
    Victim("committer (host keys)", "host-keys."),
    Victim("companion (ssh-keygen)", "host-keys-programs."),
    Victim("vault", "vault."),
    Victim("verifier", "verifier."),
    Victim("supervisor", "account."),
    Victim("spawner", "account."),
)


def kill_one(page: Page, victim: Victim, wanted: Wanted) -> None:
    """A fresh VM, one kill, the same outcome."""
    with Lab(image_files()) as lab:
        scene = Scene(lab)
        scene.start_host()
        scene.insert(wanted.medium("udf"))
        unit = Unit(scene)
        try:
            hit = strike(scene, unit.agent, victim)
            struck = time.monotonic()
            until("Ready", lambda: unit.keep_running() and scene.is_settled(), READY_WITHIN_S)
            took = time.monotonic() - struck
            wrong = [f"{check.what} ({check.found})" for check in judge(scene, wanted) if not check.right]
            found = f"{hit}; Ready {took:.2f} s later, {unit.starts} start{'s' if unit.starts > 1 else ''} of the unit"
            page.check(victim.name, not wrong, "; ".join([found, *wrong]))
        except WaitedInVain as error:
            page.check(victim.name, False, f"{error}; its log:\n{scene.log()}")
        finally:
            unit.stop()


class Unit:
    """Starts the agent again whenever it ends, as its systemd unit does."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.agent = scene.start_agent()
        self.starts = 1
        self._ended: float | None = None

    def keep_running(self) -> bool:
        """Start it again if it ended long enough ago; whether it runs."""
        if self.agent.poll() is None:
            return True
        self._ended = self._ended or time.monotonic()
        if time.monotonic() - self._ended >= RESTART_S:
            self.agent, self._ended = self._scene.start_agent(), None
            self.starts += 1
        return self._ended is None

    def stop(self) -> None:
        """End it; with the lab's end it would go anyway."""
        if self.agent.poll() is None:
            self._scene.stop_agent(self.agent)


def strike(scene: Scene, agent: subprocess.Popen[bytes], victim: Victim) -> str:
    """kill -9 at the moment; says who was hit."""
    resident = 0
    if victim.name == "supervisor":
        resident = supervisor_pid(agent)
    elif victim.name == "spawner":
        resident = spawner_pid(agent)

    def at_work() -> list[tuple[str, int]]:
        workers = scene.workers().items()
        return [(name, pids[0]) for name, pids in workers if name.startswith(victim.moment) and pids]

    def hit() -> str:
        if agent.poll() is not None:
            raise WaitedInVain(f"the agent ended with status {agent.returncode}")
        for name, pid in at_work():
            if kill_process(resident or pid):
                return f"killed while {name} was at work"
        return ""

    return until(f"{victim.moment[:-1]} at work", hit, HIT_WITHIN_S, every_s=0.002)
