# SPDX-License-Identifier: Apache-2.0
"""kill -9 between two effects, drawn over all processes of a provisioning: the end is that of an undisturbed one.

`make kills` takes every gap; here it is a sample, another one with KILLS_SEED.
"""

import faulthandler
import os

import pytest

from tests.kills.calls import FILE
from tests.kills.campaign import run, sample
from tests.kills.histogram import histogram, summary
from tests.kills.killer import Gap

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

BOOTS_OF_EACH_MODE = 2


def test_a_kill_in_whatever_gap_changes_nothing_about_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    faulthandler.cancel_dump_traceback_later()  # a busy machine takes longer for these than others' tests may
    outcome = run(sample(int(os.environ.get("KILLS_SEED", "1")), BOOTS_OF_EACH_MODE), lambda text: None)
    with capsys.disabled():
        print(f"\n{histogram(outcome)}")
    assert not outcome.wrong, "\n\n".join(outcome.wrong)
    assert not outcome.missed, f"missed: {', '.join(map(str, outcome.missed))}"
    assert {gap.process for gap in outcome.chosen} == {gap.process for gap in outcome.gaps}


def test_a_gap_that_does_not_come_is_missed() -> None:
    never = Gap("hostname", "openat(/etc/never)", FILE)
    outcome = run(lambda gaps: [never], lambda text: None, tries=1)
    assert (outcome.missed, outcome.boots, outcome.wrong) == ([never], 1, [])
    assert "1 of 1 gaps missed" in summary(outcome)
