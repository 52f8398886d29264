# SPDX-License-Identifier: Apache-2.0
"""Owns when a process that died is started again: at once, then later and later. Pure; both root processes use it."""

from collections import deque
from collections.abc import Callable

import msgspec


class Intensity(msgspec.Struct, frozen=True):
    """The first restart is immediate, the n-th after that waits base * 2^(n-1), at most `longest_s`, +-`jitter`.

    More than `deaths` within `window_s` makes the thing degraded: then one attempt every `probe_s`. After a quiet
    `window_s` the count starts anew. Seconds throughout."""

    base_s: float = 0.1
    longest_s: float = 30.0
    jitter: float = 0.2
    deaths: int = 5
    window_s: float = 10.0
    probe_s: float = 300.0


class Restarts:
    """The deaths of one thing and what follows from them."""

    def __init__(self, intensity: Intensity, chance: Callable[[], float]) -> None:
        """`chance` gives numbers in [0, 1): random, so that many machines don't restart in step."""
        self._intensity = intensity
        self._chance = chance
        self._deaths: deque[float] = deque(maxlen=intensity.deaths + 1)
        self._in_row = 0
        self.total = 0
        self.degraded = False

    def died(self, now: float) -> float:
        """Record a death at `now` (monotonic seconds); returns how long to wait before the next start."""
        policy = self._intensity
        if self._deaths and now - self._deaths[-1] > max(policy.window_s, 2 * self._wait_s()):
            self._deaths.clear()
            self._in_row = 0
        self._deaths.append(now)
        self.total += 1
        self.degraded = len(self._deaths) > policy.deaths and now - self._deaths[0] <= policy.window_s
        if self.degraded:
            return policy.probe_s
        wait = self._wait_s()
        self._in_row += 1
        return wait * (1 + policy.jitter * (2 * self._chance() - 1))

    def _wait_s(self) -> float:
        if self._in_row == 0:
            return 0.0
        return float(min(self._intensity.longest_s, self._intensity.base_s * 2.0 ** min(self._in_row - 1, 20)))
