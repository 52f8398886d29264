# SPDX-License-Identifier: Apache-2.0
"""Owns a series of kills: a supervisor that asks the host without a pause is killed again and again, and looked after.

Runs in the test or the bench. It counts; whether the counts are right is theirs to say.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from policy.egress import nft
from tests.egress.asking import ASKED
from tests.fabric.lab import Lab, send_signal
from tests.fabric.scene import Scene, children_of, image_files, kill_process, spawner_pid
from tests.fabric.waiting import WaitedInVain, until


@dataclass(frozen=True)
class Counts:
    """Of all lives together. `refused` are packets that the rule refused; `seen` requests that the host has answered;
    `begun`, `answered`, `failed` those that the supervisor knows of; `half_closed` connections that the host keeps."""

    lives: int
    refused: int
    begun: int
    answered: int
    failed: int
    seen: int
    half_closed: int


@contextmanager
def asking(what: str) -> Iterator[tuple[Scene, int]]:
    """A lab with the host and an asker (`asking_spawner`); gives the scene and the spawner's pid."""
    with Lab(image_files()) as lab:
        scene = Scene(lab)
        scene.start_host()
        with lab.path("/run/fabric/asker.log").open("wb") as log:
            module = [sys.executable, "-I", "-m", "tests.egress.asking_spawner", what]
            spawner = lab.popen(module, cgroup=scene.agent_cgroup, stdout=log, stderr=log)
        try:
            yield scene, spawner_pid(spawner)
        except AssertionError as error:
            error.add_note(lab.path("/run/fabric/asker.log").read_text())
            raise
        finally:
            send_signal(spawner, signal.SIGKILL)
            spawner.wait(timeout=15)


def series(lives: int, requests: int) -> Counts:
    """Kill it `lives` times, each time after at least so many `requests`, in the midst of one or between two."""
    refused = 0
    with asking("ask") as (scene, spawner):
        for life in range(1, lives + 1):
            so_far = len(_asked(scene.lab))
            until(f"the requests of life {life}", lambda n=so_far: len(_asked(scene.lab)) >= n + 2 * requests, 30)  # type: ignore[misc]
            kill_process(_asker(spawner))
            # The next one loads the rule anew, which begins to count at 0.
            refused += _refused(scene.lab)
        asked = _asked(scene.lab)
        seen = sum(record["route"] == "goalstate" and record["verdict"] == "accepted" for record in scene.records())
        half_closed = _half_closed(scene)
    return Counts(lives, refused, asked.count(b"?"), asked.count(b"."), asked.count(b"x"), seen, half_closed)


def _asked(lab: Lab) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return lab.path(ASKED).read_bytes()
    return b""


def _asker(spawner: int) -> int:
    """The first of its children is the one that lives longest."""
    return until("the asker", lambda: children_of(spawner))[0]


def _half_closed(scene: Scene) -> int:
    """How many the host has, a moment after the last kill."""
    with contextlib.suppress(WaitedInVain):
        until("none", lambda: not scene.steer("state")["half_closed"], 2)
    return int(str(scene.steer("state")["half_closed"]))


def _refused(lab: Lab) -> int:
    return nft.counters(lab.output("nft", *nft.LIST_COUNTERS))["refused"]
