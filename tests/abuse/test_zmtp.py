# SPDX-License-Identifier: Apache-2.0
"""ZMTP itself as a weapon: who sends what is none is ended and recorded, and work goes on; outsiders get nowhere."""

import subprocess
import sys
from typing import Any

import pytest

from supervisor.layout import Layout
from tests.abuse import zmtp
from tests.abuse.attempts import HONEST, does_honest_work
from tests.abuse.ground import Ground
from tests.fabric.lab import PROJECT
from tests.fabric.scene import AGENT
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig

pytestmark = pytest.mark.root

CUT_OFF = "cut off: it lives"
# What is said of those whose bytes libzmq takes; of those without a line, that they hung.
SAID = {
    "reserved_flags": "not msgpack",
    "second_greeting": CUT_OFF,
    "another_protocol": CUT_OFF,
    "empty_frames": "not msgpack",
    "subscribes": "not msgpack",
}
ATTACKS = (*zmtp.CUT, *zmtp.TAKEN)
# Neither its messages nor its words may make the supervisor late (seconds) or big (KiB).
LATEST_S, BIGGEST_KIB = 0.25, 80 * 1024
DEADLINE_S = 2.0
AT_A_TIME = 5
Answer = dict[str, Any]


@pytest.fixture
def rig(ground: Ground) -> Rig:
    return ground.rig()


@pytest.fixture(scope="module")
def siege(ground: Ground) -> dict[str, Answer]:
    """What came of each attack, some of them at a time; `recorded` is what the audit log has of it."""
    rig = ground.rig()
    answers: dict[str, Answer] = {}
    recorded: list[str] = []
    for first in range(0, len(ATTACKS), AT_A_TIME):
        numbers = {name: attacks(rig, name) for name in ATTACKS[first : first + AT_A_TIME]}
        assert [does_honest_work(rig) for _ in range(3)] == [True] * 3
        for name, number in numbers.items():
            answers[name] = rig.answer(number)
            recorded += answers[name]["recorded"]
            assert answers[name]["late_s"] < LATEST_S
            assert answers[name]["peak_kib"] < BIGGEST_KIB
    assert len(recorded) == len(ATTACKS)
    for answer in answers.values():
        answer["recorded"] = [line for line in recorded if answer["text"].split(":")[0].split()[0] in line]
    return answers


def attacks(rig: Rig, name: str) -> int:
    return rig.tell("job", kind="parser", content=f"attack zmtp_{name}", deadline_s=DEADLINE_S)


@pytest.mark.parametrize("name", zmtp.CUT)
def test_who_is_cut_off_is_ended_and_recorded(name: str, siege: dict[str, Answer]) -> None:
    answer = siege[name]
    assert (answer["error"], CUT_OFF in answer["text"]) == ("WorkerViolation", True), answer
    assert any(line.startswith("violation parser.") and CUT_OFF in line for line in answer["recorded"])


@pytest.mark.parametrize("name", zmtp.TAKEN)
def test_what_is_taken_for_a_frame_gets_nobody_further(name: str, siege: dict[str, Answer]) -> None:
    answer = siege[name]
    error, event = ("WorkerViolation", "violation") if name in SAID else ("WorkerHung", "worker-hung")
    assert (answer["error"], SAID.get(name, "did not finish within") in answer["text"]) == (error, True), answer
    assert any(line.startswith(f"{event} parser.") for line in answer["recorded"])


@pytest.mark.parametrize("early", zmtp.EARLY)
def test_connections_beside_its_own_are_no_way_in(early: str, ground: Ground) -> None:
    """Whichever connection libzmq takes: the worker is served as always, or found out; others never notice."""
    rig = ground.rig(early=early)
    for _ in range(2):
        answer = rig.ask("job", kind="parser", content=HONEST)
        assert answer.get("messages") == ["Versions"] or answer["recorded"], answer
        assert answer["late_s"] < LATEST_S


def test_without_the_look_at_connections_it_lives_till_its_deadline(ground: Ground) -> None:
    rig = ground.rig((Mutation("supervisor.births", "self._cut_off.watch(worker)", "pass"),))
    assert rig.answer(attacks(rig, "size_beyond_all"))["error"] == "WorkerHung"


# --- from outside -------------------------------------------------------------------------------------------------

SQUATTER = """
import os, socket, sys, time
uid, folder, greeting = int(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3])
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
print("begins", flush=True)
held, said, refused = [], 0, 0
ends = time.monotonic() + float(sys.argv[4])
while time.monotonic() < ends:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(0.05)
    try:
        peer.connect(f"{folder}/parser.0/s")
        peer.sendall(greeting)
        said += len(peer.recv(4096)) > 64
        held = [*held[-30:], peer]
    except PermissionError:
        refused += 1
    except OSError:
        pass
print(said, refused)
"""
JOBS = 6


def squatter(ground: Ground, uid: int) -> "subprocess.Popen[bytes]":
    """One that is at it already, for two seconds."""
    hello = (zmtp.GREETING + zmtp.READY).hex()
    arguments = [str(uid), Layout().channels, hello, "2"]
    process = ground.lab.popen([sys.executable, "-c", SQUATTER, *arguments], cwd=str(PROJECT), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begins\n"
    return process


def heard_and_refused(process: "subprocess.Popen[bytes]") -> tuple[int, int]:
    """How often it was told more than to go away, and how often it could not even connect."""
    heard, refused = map(int, process.communicate(timeout=15)[0].split())
    return heard, refused


@pytest.mark.parametrize("uid", [0, 60801, 65534], ids=["root", "another worker's", "nobody"])
def test_a_squatter_keeps_nobody_from_work_and_hears_nothing(uid: int, ground: Ground) -> None:
    """It tries to be the first, again and again, at the place where a worker is about to connect."""
    rig = ground.rig()
    process = squatter(ground, uid)
    answers = [rig.ask("job", kind="parser", content=HONEST) for _ in range(JOBS)]
    assert [answer.get("messages") for answer in answers] == [["Versions"]] * JOBS
    heard, refused = heard_and_refused(process)
    assert (heard, refused > 0) == (0, uid != 0)


def test_without_the_look_at_uids_a_squatter_of_roots_is_let_in(ground: Ground) -> None:
    unfiltered = Mutation("ipc.pair", "    pair.setsockopt(zmq.IPC_FILTER_UID, peer_uid)\n", "")
    rig = ground.rig((unfiltered,))
    process = squatter(ground, 0)
    for _ in range(JOBS):
        rig.tell("job", kind="parser", content=HONEST)
    heard, _ = heard_and_refused(process)
    ground.clear()
    assert heard > 0


def test_all_that_was_recorded_is_whole(ground: Ground) -> None:
    """After all these attacks, by the command that an administrator has."""
    rig = ground.rig()
    assert does_honest_work(rig)
    verdict = ground.lab.run([str(AGENT), "log", "verify"])
    assert verdict.returncode == 0, verdict.stdout
