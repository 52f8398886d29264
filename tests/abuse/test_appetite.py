# SPDX-License-Identifier: Apache-2.0
"""One message without an end: whoever sends it is ended long before the supervisor has eaten what it is allowed."""

import time
from collections.abc import Iterator

import pytest

from tests.abuse.attempts import attack, does_honest_work
from tests.abuse.ground import Ground
from tests.jail.mutants import Mutation

pytestmark = pytest.mark.root

NAME = "one_message_without_end"
FOUND_OUT_S = 1.5
# Its cgroup ends it at 128 MiB, where the kernel can; it should not need to.
BIGGEST_KIB = 120 * 1024
# As much as a supervisor takes in that does not look, and still lives.
BOUND_MIB = 80
UNWATCHED = (Mutation("supervisor.births", "self._appetite.watch(worker)", "pass"),)


@pytest.fixture
def ground_alone(ground: Ground) -> Iterator[Ground]:
    """What a supervisor has ever been in size it says for ever: this one's is no other test's."""
    ground.clear()
    yield ground
    ground.clear()


def test_it_is_ended_and_counted_and_work_goes_on(ground_alone: Ground) -> None:
    rig = ground_alone.rig()
    for number in range(1, 4):
        began = time.monotonic()
        answer = attack(rig, NAME)
        assert (answer["error"], answer["violations"]) == ("WorkerViolation", number)
        assert "MiB while listening to it" in answer["text"]
        assert time.monotonic() - began < FOUND_OUT_S
        # At once: what was taken in and given back is not held against the next one.
        assert does_honest_work(rig)
        assert rig.ask("status")["peak_kib"] < BIGGEST_KIB


def test_one_that_lives_on_is_no_burden_for_those_who_come_after(ground_alone: Ground) -> None:
    rig = ground_alone.rig()
    kept = rig.ask("start", kind="parser")["serial"]
    assert attack(rig, NAME)["error"] == "WorkerViolation"
    assert [does_honest_work(rig) for _ in range(8)] == [True] * 8
    assert rig.ask("finish", serial=kept)["violations"] == 1


def test_without_a_look_at_it_the_supervisor_grows(ground_alone: Ground) -> None:
    rig = ground_alone.rig(UNWATCHED)
    before = rig.ask("status")["peak_kib"]
    answer = attack(rig, NAME, BOUND_MIB)
    assert "several parts" in answer["text"]
    assert answer["peak_kib"] - before > BOUND_MIB * 1024
