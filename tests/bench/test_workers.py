# SPDX-License-Identifier: Apache-2.0
"""The bench's driver does what it says with the agent's own spawner and fleet: once each, in a lab."""

import pytest

from tests.bench.fleet_jobs import Jobs
from tests.bench.workers import LONG_MEDIUM, MEDIUM, RESULTS, run

pytestmark = pytest.mark.root


def test_forked_parsers_start_work_and_are_replaced() -> None:
    timings = run(Jobs(MEDIUM, LONG_MEDIUM, RESULTS, starts=2, kills=2, parses=2))
    assert [len(each) for each in (timings.answering, timings.verified, timings.replaced, timings.parsed)] == [2] * 4
    assert len(timings.read) >= 4
    assert all(seconds > 0 for seconds in timings.answering + timings.verified + timings.replaced + timings.parsed)


def test_parsers_by_exec_do_the_same_job() -> None:
    timings = run(Jobs(MEDIUM, LONG_MEDIUM, RESULTS, starts=1, parses=1, by_exec=True))
    assert len(timings.parsed) == 1


def test_an_unconfined_worker_answers_too_for_comparison() -> None:
    timings = run(Jobs(MEDIUM, LONG_MEDIUM, RESULTS, starts=1, unconfined=True))
    assert (len(timings.answering), timings.verified) == (1, ())
