# SPDX-License-Identifier: Apache-2.0
"""Owns what time it is at the host: learned from the dates of its answers, carried on by the monotonic clock.

Runs in the supervisor. The guest's own clock may be off by years, and then the host would refuse what is signed with
it. Dates are read and written here: the library's ways would load calendar, locale and email for good.
"""

import re
import time

from supervisor.clock import Clock

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# The host tells whole seconds, and an answer takes a while.
OFF_S = 5.0
# What it has told counts for so long: the monotonic clock stands still while the machine is suspended.
RECENT_S = 600.0
DAY_S = 86400
_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)


class HostTime:
    """The host's clock, as far as it has told; the guest's until then."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._text = ""
        self._offset_s: float | None = None
        self._heard_at = 0.0

    def heard(self, date: str) -> None:
        """An answer that came just now has this date; one that can't be read tells nothing."""
        if date == self._text:
            return  # the same second
        told = read_date(date)
        if told is not None:
            self._text = date
            self._heard_at = self._clock.monotonic()
            self._offset_s = told - self._heard_at

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return self._clock.wall() if self._offset_s is None else self._clock.monotonic() + self._offset_s

    @property
    def told(self) -> float | None:
        """The same by the host alone; None when it has not told lately."""
        now = self._clock.monotonic()
        return None if self._offset_s is None or now - self._heard_at > RECENT_S else now + self._offset_s

    @property
    def guest_is_off_s(self) -> float:
        """By how many seconds the guest's clock is ahead of the host's (negative: behind); 0 when not worth saying."""
        off = self._clock.wall() - self.now
        return off if abs(off) > OFF_S else 0.0


def write_date(seconds: float) -> str:
    """Seconds since 1970 as RFC 1123 has a date, in GMT."""
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    return f"{DAYS[weekday]}, {day:02} {MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


def read_date(text: str) -> int | None:
    """Such a date in seconds since 1970; None for anything else. The day of the week is not looked at."""
    found = _DATE.fullmatch(text)
    if found is None or found[2] not in MONTHS:
        return None
    day, year, hour, minute, second = (int(found[group]) for group in (1, 3, 4, 5, 6))
    if not (1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60 and year >= 1970):
        return None
    return _days(year, MONTHS.index(found[2]) + 1, day) * DAY_S + hour * 3600 + minute * 60 + second


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar; the year begins in March, so that leap days come last."""
    shifted, since_march = (year, month - 3) if month > 2 else (year - 1, month + 9)
    before = 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400
    return before + (153 * since_march + 2) // 5 + day - 1 - 719468
