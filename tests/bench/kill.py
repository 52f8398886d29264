# SPDX-License-Identifier: Apache-2.0
"""Measures kill -9 of a resident process to Ready, early, in the middle and late; the worst of these points counts.

A boot that is killed may take until Ready, from the kill on, no longer than a boot that nobody disturbs, and 0.3 s.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.layout import Layout
from tests.bench import processes
from tests.bench.samples import Budget, Row, quantile, timed
from tests.fabric.demo_kills import Unit
from tests.fabric.lab import Lab
from tests.fabric.scene import Scene, Wanted, image_files, kill_process, spawner_pid, supervisor_pid
from tests.fabric.vm import QUICK
from tests.fabric.waiting import until

BEYOND_BUDGET_S = 0.3
# The same as a multiple of a bare interpreter's start, with room for one that does other things as well.
MOST_TIMES_BARE = 36
READY_WITHIN_S = 60.0
# The last that is written for the tenant.
LATE_FILE = "/var/lib/waagent/ovf-env.xml"
TRIES = 5
# A key that costs nothing: what luck makes of an RSA key is no matter of kills (boot.py).
SETTINGS = QUICK
LOOK_EVERY_S = 0.001


@dataclass(frozen=True)
class Point:
    """Where a process is killed: as soon as `is_there`, asked of the scene and the pid of `victim`, says so."""

    name: str
    victim: Callable[[subprocess.Popen[bytes]], int]
    is_there: Callable[[Scene], bool]


def _has_begun(scene: Scene) -> bool:
    """The supervisor lives, and nothing that it does is of any use yet: all of it has to be done again."""
    return scene.lab.path(Layout().journal).exists()


def _is_planned(scene: Scene) -> bool:
    """Medium read, host heard, nothing written down that would save doing it again."""
    return any(name.startswith("provisioning.") for name in scene.workers())


def _is_late(scene: Scene) -> bool:
    """Everything is done but what comes after the tenant's own wishes: host keys in their place, the marker."""
    return scene.lab.path(LATE_FILE).exists()


POINTS = (
    Point("spawner, just begun", spawner_pid, _has_begun),
    Point("supervisor, while it plans", supervisor_pid, _is_planned),
    Point("spawner, while it plans", spawner_pid, _is_planned),
    Point("supervisor, all but the last done", supervisor_pid, _is_late),
    Point("spawner, all but the last done", spawner_pid, _is_late),
)


def measure(times: int) -> list[Row]:
    """`times` boots without a kill, and as many for each point."""
    bare = timed(lambda: subprocess.run([sys.executable, "-I", "-c", "pass"], check=True), 3 * times)
    undisturbed = tuple(until_ready(None) for _ in range(times))
    usual_s = quantile(undisturbed, 50)
    rows = [Row("start to Ready, ed25519 host key, nobody killed", "s", undisturbed)]
    beyond: list[float] = []
    for point in POINTS:
        after = tuple(_from_kill(point) for _ in range(times))
        rows.append(Row(f"  kill -9 to Ready: {point.name}", "s", after))
        beyond.append(quantile(after, 50) - usual_s)
    worst_s = max(beyond)
    ratio = worst_s / quantile(bare, 50)
    return [
        *rows,
        Row("  beyond an undisturbed boot, the worst point", "s", (worst_s,), Budget(BEYOND_BUDGET_S, binding=False)),
        Row("  the same as a multiple of python3 -I", "x", (ratio,), Budget(MOST_TIMES_BARE, binding=True)),
    ]


def _from_kill(point: Point) -> float:
    """As `until_ready`; where the kill came after Ready, another boot."""
    taken = (until_ready(point) for _ in range(TRIES))
    return next(seconds for seconds in taken if seconds > 0)


def until_ready(point: Point | None) -> float:
    """Seconds from the agent's start, or from the kill at `point`, until the host had accepted Ready."""
    with Lab(image_files(SETTINGS)) as lab:
        scene = Scene(lab)
        scene.insert(Wanted().medium())
        scene.start_host()
        unit = Unit(scene)
        try:
            began = processes.started_at(spawner_pid(unit.agent))
            if point is not None:
                victim = point.victim(unit.agent)
                until(point.name, lambda: point.is_there(scene), READY_WITHIN_S, LOOK_EVERY_S)
                began = time.monotonic()
                kill_process(victim)
            until("Ready", lambda: unit.keep_running() and scene.is_ready(), READY_WITHIN_S, LOOK_EVERY_S)
            ready = next(report.monotonic for report in scene.reports() if report.health.state == "Ready")
        finally:
            unit.stop()
    return ready - began
