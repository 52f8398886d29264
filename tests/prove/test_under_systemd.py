# SPDX-License-Identifier: Apache-2.0
"""On a provisioned machine under systemd, with version 1's groups and with 2's alone: it holds, and nobody notices."""

import json
from typing import Literal

import pytest

from supervisor.prove.handler_cases import CLASSES, WAYS
from tests.fabric.lab import LabProcess
from tests.fabric.scene import AGENT, Scene, Wanted, image_files
from tests.fabric.systemd_lab import UNIT, SystemdLab
from tests.fabric.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]  # on a machine that does nothing else each takes some seconds

KINDS = ("supervisor", "spawner", "parser", "vault", "password", "password-programs")
CASES = """
reads-shadow reads-the-supervisors-memory connects-to-the-wireserver leaves-its-cgroup takes-all-memory outlives-a-kill
removes-the-journal connects-to-systemd inherits-an-environment
""".split()

LIVE = ("the-agents-memory", "the-agents-records", "the-wireserver", "the-control-socket")


def spawners(lab: SystemdLab) -> list[LabProcess]:
    """The service's first process: any other one that dies it starts again, and counts. Workers are its children."""
    return [process for process in lab.processes() if process.argv[-1:] == ("run",) and process.parent == 1]


def lacks_limits(lab: SystemdLab) -> bool:
    """Whether version 2 alone has no memory controller here: then nothing limits a worker's memory, and it shows."""
    file = lab.path("/sys/fs/cgroup/cgroup.controllers")
    return file.exists() and "memory" not in file.read_text().split()


def kept(lab: SystemdLab) -> list[tuple[str, str]]:
    """What the agent has left in its folders; what waits to be told to the host comes and goes all the while."""
    changes = (change for change in lab.changed() if "/var/lib" in change.path and "/telemetry" not in change.path)
    return sorted((change.path, change.kind) for change in changes)


def has_followed(lab: SystemdLab) -> bool:
    """Whether the first goal state is in force, and what it brought is on disk."""
    told = "WireServer's, is in force" in lab.journal(UNIT)
    return told and any("Certificates.json" in path for path, _ in kept(lab))


def handlers_are_proven(lab: SystemdLab) -> None:
    """Of their classes what needs a live agent and a host: its memory, its socket, the rule in front of the host."""
    lab.output("mount", "--make-rshared", "/")
    done = lab.run([str(AGENT), "prove", "--json", *CLASSES, *(word for case in LIVE for word in ("--case", case))])
    states = {
        (each["id"], each["class"], each["way"]): each["state"] for each in json.loads(done.stdout)["handlers"]["cases"]
    }
    assert done.returncode == 0, done.stdout
    for case in LIVE:
        assert [states[case, "compat", way] for way in WAYS] == ["refused", "reached"]
        assert [states[case, "contained", way] for way in WAYS] == ["refused", "refused"]


@pytest.mark.parametrize("cgroup", ["host", "v2"])
def test_a_live_agent_is_proven_and_left_alone(cgroup: Literal["host", "v2"]) -> None:
    with SystemdLab(image_files(), cgroup=cgroup) as lab:
        scene = Scene(lab, f"system.slice/{UNIT}")
        scene.start_host()
        scene.insert(Wanted().medium())
        started = lab.systemctl("start", UNIT)
        assert started.returncode == 0, started.stderr + lab.journal(UNIT)
        scene.wait_until_ready()
        until("a goal state, certificates and all", lambda: has_followed(lab), 20)
        before = spawners(lab)
        assert len(before) == 1
        left = kept(lab)
        command = [str(AGENT), "prove", "--json", *KINDS, *(word for case in CASES for word in ("--case", case))]
        done = lab.run(command, timeout_s=280)
        found = json.loads(done.stdout)
        beyond = {case["id"] for case in found["cases"] if case["state"] in {"succeeded", "broken"}}
        assert beyond <= ({"takes-all-memory"} if lacks_limits(lab) else set())
        assert (done.returncode, found["holds"]) == (int(bool(beyond)), not beyond)
        assert [row["kind"] for row in found["kinds"]] == [*KINDS]
        assert all(row["stopped"] >= 4 for row in found["kinds"] if row["kind"] not in {"spawner", "supervisor"})
        if cgroup == "host":
            handlers_are_proven(lab)
        assert spawners(lab) == before
        assert set(kept(lab)) ^ set(left) == set()
        assert lab.show(UNIT, "NRestarts", "ActiveState") == {"NRestarts": "0", "ActiveState": "active"}
