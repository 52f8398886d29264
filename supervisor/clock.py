# SPDX-License-Identifier: Apache-2.0
"""Owns the two clocks the supervisor reads; injected everywhere so that no logic depends on ambient time."""

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds decide (time-outs, backoff); wall seconds since 1970 are only ever shown."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


class SystemClock:
    """The machine's clocks. The monotonic one counts suspended time too, so that a resumed VM sees its deadlines."""

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time()


def stamp(wall: float) -> str:
    """Wall seconds since 1970 as UTC with milliseconds and a Z."""
    whole, thousandth = divmod(int(wall * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{thousandth:03d}Z"
