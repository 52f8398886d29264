# SPDX-License-Identifier: Apache-2.0
"""The retry plan as pure functions: meanings of statuses, delays, throttling."""

import pytest

from supervisor.wire.host import Patience
from supervisor.wire.retry import Progress, RetryPolicy, Verdict, judge, next_delay_s


def delays(policy: RetryPolicy, *statuses: int | None) -> list[float]:
    """All delays of a request whose attempts end with `statuses`, the last one again and again."""
    found: list[float] = []
    progress = Progress()
    for attempt in range(1000):
        progress = progress.after(statuses[min(attempt, len(statuses) - 1)])
        delay_s = next_delay_s(policy, progress)
        if delay_s is None:
            return found
        found.append(delay_s)
    raise AssertionError("the plan does not end")


@pytest.mark.parametrize("status", [200, 201, 202])
def test_accepted(status: int) -> None:
    assert judge(status, b"") is Verdict.ACCEPTED


@pytest.mark.parametrize("status", [205, 206, 401, 403, 429, 500, 501, 502, 503, 504, 507])
def test_tried_again(status: int) -> None:
    assert judge(status, b"InvalidContainerConfiguration") is Verdict.TRY_AGAIN


@pytest.mark.parametrize("status", [203, 204, 301, 302, 304, 307, 400, 404, 409, 505, 999])
def test_refused(status: int) -> None:
    assert judge(status, b"<a/>") is Verdict.REFUSED


def test_gone_by_410_or_by_the_name_of_the_error() -> None:
    assert judge(410, b"") is Verdict.GONE
    assert judge(400, b"<Error><Code>InvalidContainerConfiguration</Code></Error>") is Verdict.GONE
    assert judge(404, b"InvalidContainerConfiguration") is Verdict.REFUSED


def test_six_attempts_with_fibonacci_delays() -> None:
    assert delays(RetryPolicy(), None) == [2, 3, 5, 8, 13]
    assert delays(RetryPolicy(), 500, None, 502) == [2, 3, 5, 8, 13]


@pytest.mark.parametrize("status", [403, 429, 503])
def test_throttling_means_fixed_delays_and_25_attempts(status: int) -> None:
    assert delays(RetryPolicy(), status) == [1.0] * 24


def test_throttling_once_seen_stays() -> None:
    assert delays(RetryPolicy(), 500, 500, 429, 500) == [2, 3, *[1.0] * 22]


def test_throttling_never_shortens_a_longer_plan() -> None:
    assert len(delays(RetryPolicy(attempts=30), 503)) == 29


def test_reports_are_tried_thirty_times_with_steps_that_stop_growing() -> None:
    found = delays(Patience().reports, None)
    assert found[:11] == [2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233]
    assert found[11:] == [300] * 18
