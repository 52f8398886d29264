# SPDX-License-Identifier: Apache-2.0
"""When something that died is started again."""

import pytest

from supervisor.restarts import Intensity, Restarts

MIDDLE = 0.5  # of the jitter: none


def waits(deaths: list[float], chance: float = MIDDLE) -> list[float]:
    restarts = Restarts(Intensity(), lambda: chance)
    return [round(restarts.died(now), 6) for now in deaths]


def test_the_first_restart_is_immediate_and_the_next_wait_twice_as_long_each() -> None:
    assert waits([0, 0.1, 0.3, 0.7, 1.5]) == [0, 0.1, 0.2, 0.4, 0.8]


def test_no_wait_is_longer_than_the_longest() -> None:
    restarts = Restarts(Intensity(longest_s=3.0, deaths=100), lambda: MIDDLE)
    waited = [restarts.died(number * 5.0) for number in range(12)]
    assert waited[-3:] == [3.0, 3.0, 3.0]


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.8), (1.0, 1.2)])
def test_waits_are_spread(chance: float, factor: float) -> None:
    assert waits([0, 0.1, 0.2], chance) == [0, round(0.1 * factor, 6), round(0.2 * factor, 6)]


def test_too_many_deaths_degrade_it_to_a_try_now_and_then() -> None:
    restarts = Restarts(Intensity(), lambda: MIDDLE)
    for number in range(5):
        restarts.died(number * 0.5)
        assert not restarts.degraded
    assert restarts.died(3.0) == 300
    assert (restarts.degraded, restarts.total) == (True, 6)


def test_a_quiet_window_begins_anew() -> None:
    restarts = Restarts(Intensity(), lambda: MIDDLE)
    for number in range(6):
        restarts.died(number * 0.1)
    assert restarts.degraded
    assert restarts.died(400.0) == 0
    assert (restarts.degraded, restarts.total) == (False, 7)


def test_slow_deaths_do_not_degrade_it() -> None:
    restarts = Restarts(Intensity(), lambda: MIDDLE)
    for number in range(50):
        restarts.died(number * 4.0)
        assert not restarts.degraded
