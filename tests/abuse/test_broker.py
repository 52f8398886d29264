# SPDX-License-Identifier: Apache-2.0
"""What a taken-over worker tries on its supervisor: it is killed and counted, and everyone else's work goes on."""

from typing import Any

import pytest

from tests.abuse import broker
from tests.abuse.attempts import HONEST, attack
from tests.abuse.ground import Ground
from tests.fabric.waiting import until
from tests.jail.rigged import Rig

pytestmark = pytest.mark.root

# What the supervisor says of each, in its log.
VIOLATIONS = {
    "unknown_message": "no message is called",
    "unknown_field": "unknown field",
    "mistyped_field": "Expected `str`",
    "name_of_a_number": "frame is not",
    "one_element_more": "frame is not",
    "trailing_bytes": "not msgpack",
    "twice_a_key": "duplicate key",
    "extension_type": "not msgpack",
    "timestamp": "not msgpack",
    "not_a_number": "Expected `str`",
    "bad_utf8": "not msgpack",
    "deep_nesting": "not msgpack",
    "huge_array": "not msgpack",
    "huge_text": "not msgpack",
    "nothing": "not msgpack",
    "garbage": "not msgpack",
    "later_sequence": "came where 1 was due",
    "negative_sequence": "not a count",
    "in_parts": "several parts",
    "replay": "frame 0 came where 1 was due",
    "ready_again": "only once",
    "message_of_another": "not permitted",
    "floods": "not msgpack",
    "announces_one_sends_none": "none came",
    "announces_one_sends_two": "do not belong",
    "announces_four_sends_nine": "cut off",
    "announces_five": "descriptor count",
    "announces_many": "descriptor count",
    "attaches_two": "came with 2 descriptors",
}
# Neither its messages nor its words may make the supervisor late (seconds) or big (KiB).
LATEST_S, BIGGEST_KIB = 0.25, 40 * 1024


@pytest.fixture
def rig(ground: Ground) -> Rig:
    return ground.rig()


def while_others_work(rig: Rig, name: str, kind: str = "parser") -> dict[str, Any]:
    """The attack's answer; meanwhile another worker has done its job."""
    rig.ask("status")
    other = rig.tell("job", kind="parser", content=HONEST)
    final = "PlanComplete" if kind == "provisioning" else ""
    answer = attack(rig, name, kind=kind, final=final)
    others = rig.answer(other)
    assert others["messages"] == ["Versions"]
    answer["log"] = others["log"] + answer["log"]
    answer["recorded"] = others["recorded"] + answer["recorded"]
    assert answer["late_s"] < LATEST_S
    assert answer["peak_kib"] < BIGGEST_KIB
    return answer


@pytest.mark.parametrize("name", VIOLATIONS)
def test_who_breaks_a_rule_is_killed_and_counted(name: str, rig: Rig) -> None:
    before = rig.ask("status")["violations"]
    answer = while_others_work(rig, name)
    assert (answer["error"], answer["violations"]) == ("WorkerViolation", before + 1)
    assert VIOLATIONS[name] in answer["text"]
    assert any(line.startswith("error parser:") for line in answer["log"])
    # In the audit log, once.
    (recorded,) = answer["recorded"]
    assert (recorded.startswith("violation parser."), VIOLATIONS[name] in recorded) == (True, True)


def test_all_attacks_are_made() -> None:
    others = {"permitted_one", "answers_and_goes_on", "oversized", "floods_beside", "floods_the_log"}
    others.add("one_message_without_end")  # test_appetite.py
    provisioning = {"floods_with_permitted", "floods_with_descriptors"}
    assert set(broker.ATTACKS) == {*VIOLATIONS, *others, *provisioning}


def test_a_frame_beyond_the_limit_never_arrives(rig: Rig) -> None:
    answer = while_others_work(rig, "oversized")
    assert answer["error"] == "Unavailable"


def test_what_comes_after_the_answer_is_not_heard(rig: Rig) -> None:
    answer = while_others_work(rig, "answers_and_goes_on")
    assert answer["messages"] == ["Versions"]


@pytest.mark.parametrize("name", ["floods_with_permitted", "floods_with_descriptors"])
def test_a_flood_of_what_is_permitted_is_a_violation(name: str, rig: Rig) -> None:
    answer = while_others_work(rig, name, "provisioning")
    assert answer["error"] == "WorkerViolation"


def test_descriptors_that_nobody_asked_for_stay_where_they_are(rig: Rig) -> None:
    answer = while_others_work(rig, "floods_beside")
    assert (answer.get("messages"), answer.get("attached")) == (["Versions"], [0])


def test_a_flood_of_words_is_cut(rig: Rig) -> None:
    answer = while_others_work(rig, "floods_the_log")
    assert sum(map(len, answer["log"])) < 4 * 128 * 1024
    assert any("more than anyone will read" in line for line in answer["log"])


def test_nothing_of_all_that_stays_open(rig: Rig) -> None:
    """libzmq closes its own a moment after the worker's end; what leaks would stay."""
    with_nobody = until("rest", lambda: descriptors_at_rest(rig))
    for name in ("announces_one_sends_two", "announces_four_sends_nine", "attaches_two", "floods_beside") * 3:
        attack(rig, name)
    assert until("rest", lambda: 0 < descriptors_at_rest(rig) <= with_nobody)


def descriptors_at_rest(rig: Rig) -> int:
    """The supervisor's descriptors, 0 while a worker lives."""
    answer = rig.ask("status")
    return 0 if answer["alive"] else int(answer["descriptors"])


def test_a_message_in_the_wrong_phase_is_a_violation(ground: Ground) -> None:
    """In steady state nobody provisions any more."""
    rig = ground.rig(phase="steady")
    answer = attack(rig, "floods_with_permitted", kind="provisioning", final="PlanComplete")
    assert (answer["error"], "in phase steady" in answer["text"]) == ("WorkerViolation", True)


def test_an_answer_before_it_is_ready_is_a_violation(ground: Ground) -> None:
    rig = ground.rig(early="answers_before_it_is_ready")
    answer = rig.ask("job", kind="parser", content=HONEST)
    assert (answer["error"], answer["violations"]) == ("WorkerViolation", 1)


@pytest.mark.parametrize("early", ["greets_by_half", "greets_with_nonsense", "connects_twice"])
def test_connections_beside_its_own_get_it_nothing(early: str, ground: Ground) -> None:
    """Whichever connection libzmq takes: the worker is served as always, or found out."""
    rig = ground.rig(early=early)
    for _ in range(4):
        answer = rig.ask("job", kind="parser", content=HONEST)
        assert answer.get("messages") == ["Versions"] or answer["error"] == "WorkerViolation"


def test_a_greeting_that_names_nobody_is_a_violation(ground: Ground) -> None:
    """libzmq still talks to peers of the protocol's first version, of which it can't tell who they are."""
    rig = ground.rig(early="greets_as_of_old")
    answers = until("found out", lambda: [a for a in [rig.ask("job", kind="parser", content=HONEST)] if "error" in a])
    assert (answers[0]["error"], "says nothing of itself" in answers[0]["text"]) == ("WorkerViolation", True)


def test_one_that_ends_without_a_word_is_replaced_a_few_times(ground: Ground) -> None:
    rig = ground.rig(early="says_nothing")
    answer = rig.ask("job", kind="parser", content=HONEST)
    assert (answer["error"], "ended with 0" in answer["text"]) == ("Unavailable", True)
