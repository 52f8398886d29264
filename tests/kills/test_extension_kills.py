# SPDX-License-Identifier: Apache-2.0
"""kill -9 while handlers' commands run: each runs once at most, none is forgotten, what is lost is told as failed.

`make kills` takes every gap; here it is a sample, another one with KILLS_SEED.
"""

import faulthandler
import os
import random

import pytest

from tests.kills.extensions import CHANGE, extension_rounds, sample
from tests.kills.goal_states import Outcome, fight, survey, told


@pytest.mark.root
@pytest.mark.timeout(240)
def test_whoever_is_killed_no_command_runs_twice_and_none_is_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    faulthandler.cancel_dump_traceback_later()  # a busy machine takes longer for this than others' tests may
    with extension_rounds(is_thorough=False) as vm:
        gaps = survey(vm, (CHANGE,), times=1)
        wanted = sample(gaps, random.Random(int(os.environ.get("KILLS_SEED", "1"))))
        outcome = Outcome(tuple(gaps), tuple(gap for draw in wanted for gap, _ in draw.aims))
        outcome.add(fight(vm, wanted, lambda text: None, most_tries=1))
        outcome.wrong += vm.lose("install")
    with capsys.disabled():
        print(f"\n{told(outcome)}")
    assert not outcome.wrong, "\n\n".join(outcome.wrong)
    # Which of the draws come off in so few rounds is chance; the whole campaign tells what was missed.
    assert "supervisor" in {gap.process for gap in outcome.hits}
