# SPDX-License-Identifier: Apache-2.0
"""The host's time: its dates read and written as the library would, and carried on by the monotonic clock."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.wire.host_time import RECENT_S, HostTime, read_date, write_date

YEAR_S = 365 * 86400
NOW = 1795422667


class TwoClocks:
    """A machine whose wall clock is wherever it was set."""

    def __init__(self, wall: float) -> None:
        self.set_to = wall
        self.passed = 0.0

    def wall(self) -> float:
        return self.set_to + self.passed

    def monotonic(self) -> float:
        return 1000.0 + self.passed


@given(st.integers(0, 253402300799))
def test_dates_are_those_of_the_library(seconds: int) -> None:
    expected = format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)
    assert write_date(seconds) == expected
    assert read_date(expected) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mon, 23 Nov 2026 08:11:07",
        "Mon, 23 Nov 2026 08:11:07 UTC",
        "Mon, 23 nov 2026 08:11:07 GMT",
        "Mon, 23 Nov 2026 24:11:07 GMT",
        "Mon, 23 Nov 2026 08:61:07 GMT",
        "Mon, 00 Nov 2026 08:11:07 GMT",
        "Mon, 32 Nov 2026 08:11:07 GMT",
        "Mon, 23 Nov 1026 08:11:07 GMT",
        "Monday, 23-Nov-26 08:11:07 GMT",
        "Mon, 23 Nov 2026 08:11:07 GMT\n",
        "Mon, \u0662\u0663 Nov 2026 08:11:07 GMT",
    ],
)
def test_what_is_no_date_tells_nothing(text: str) -> None:
    clock = TwoClocks(NOW)
    time = HostTime(clock)
    time.heard(text)
    assert read_date(text) is None
    assert time.now == clock.wall()


def test_until_the_host_has_told_it_is_the_guests() -> None:
    assert HostTime(TwoClocks(NOW)).now == NOW
    assert HostTime(TwoClocks(NOW)).guest_is_off_s == 0


@pytest.mark.parametrize("off_s", [YEAR_S, -YEAR_S, 60, -60])
def test_a_guest_whose_clock_is_off_goes_by_the_hosts(off_s: int) -> None:
    clock = TwoClocks(NOW + off_s)
    time = HostTime(clock)
    time.heard(write_date(NOW))
    clock.passed += 100
    assert time.now == NOW + 100
    assert time.guest_is_off_s == off_s
    clock.set_to = NOW  # somebody sets it right
    assert (time.now, time.guest_is_off_s) == (NOW + 100, 0)


def test_what_the_host_has_told_counts_for_a_while() -> None:
    clock = TwoClocks(NOW + YEAR_S)
    time = HostTime(clock)
    told = [time.told]
    time.heard(write_date(NOW))
    for seconds in (RECENT_S, 1):
        clock.passed += seconds
        told.append(time.told)
    assert told == [None, NOW + RECENT_S, None]


def test_a_difference_of_a_second_is_none() -> None:
    clock = TwoClocks(NOW + 0.9)
    time = HostTime(clock)
    time.heard(write_date(NOW))
    assert time.guest_is_off_s == 0
