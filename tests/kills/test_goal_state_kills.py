# SPDX-License-Identifier: Apache-2.0
"""kill -9 while goal states are taken, carried out and told: the newest is reached, none is done twice or forgotten.

`make kills` takes every gap; here it is a sample, another one with KILLS_SEED.
"""

import faulthandler
import os
import random
from pathlib import Path

import pytest

from supervisor.journal import Journal
from supervisor.records import AnyRecord, GoalStateBegun, GoalStateEnded
from tests.kills.goal_states import Outcome, fight, sample, survey, told
from tests.kills.on_record import journal_mistakes
from tests.kills.rounds import rounds
from tests.kills.wishes import WITHOUT_ACCOUNTS


@pytest.mark.root
@pytest.mark.timeout(300)
def test_whoever_is_killed_the_newest_goal_state_is_reached(capsys: pytest.CaptureFixture[str]) -> None:
    faulthandler.cancel_dump_traceback_later()  # a busy machine takes longer for this than others' tests may
    chance = random.Random(int(os.environ.get("KILLS_SEED", "1")))
    with rounds(lasts_s=0.0) as vm:
        gaps = survey(vm, WITHOUT_ACCOUNTS, times=1)
        wanted = sample(gaps, chance)
        outcome = Outcome(tuple(gaps), tuple(gap for draw in wanted for gap, _ in draw.aims))
        outcome.add(fight(vm, wanted, lambda text: None))
    with capsys.disabled():
        print(f"\n{told(outcome)}")
    assert not outcome.wrong, "\n\n".join(outcome.wrong)
    # Which of the draws come off in so few rounds is chance; the whole campaign tells what was missed.
    assert {gap.process for gap in outcome.hits} >= {"supervisor", "parser", "opener"}


def _ended(name: str, code: int = 0) -> GoalStateEnded:
    return GoalStateEnded(name, code, "", 1.0)


A, B = GoalStateBegun("incarnation_1", "then"), GoalStateBegun("incarnation_2", "then")
AGAIN = GoalStateBegun("incarnation_1", "later")


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ((A, _ended(A.id), B, _ended(B.id)), []),
        ((A, B, _ended(B.id)), []),
        ((A, _ended(A.id), AGAIN, _ended(A.id)), []),
        ((A, _ended(A.id), _ended(A.id, -1)), ["ended 2 times"]),
        ((A, _ended(A.id), B, _ended(B.id), A, _ended(A.id)), ["ended 2 times", "begun 2 times"]),
        ((A, _ended(A.id), B), ["begun and not ended"]),
    ],
)
def test_what_is_wrong_in_a_journal_is_found(tmp_path: Path, records: tuple[AnyRecord, ...], words: list[str]) -> None:
    journal = Journal(tmp_path / "journal")
    for record in records:
        journal.append(record)
    journal.close()
    found = journal_mistakes((tmp_path / "journal").read_bytes())
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True)), found
