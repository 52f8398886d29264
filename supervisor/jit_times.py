# SPDX-License-Identifier: Apache-2.0
"""Owns when a JIT account is over, by clocks that agree, and when something that has failed is tried again.

Runs in the supervisor. A wall clock that is set wrong must never end an account: nobody brings a home back.
"""

from collections.abc import Callable

from supervisor.clock import Clock

FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0
# Where neither the host nor the monotonic clock agrees, the guest's is believed when it says the same after so long.
SECOND_LOOK_S = 300.0


class Pauses:
    """Whom something has failed for: not before that moment again, and after which pause."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._later: dict[str, tuple[float, float]] = {}

    def put_off(self, name: str) -> float:
        """It has failed once more: for how many seconds nothing is tried now."""
        pause_s = min(2 * self._later.get(name, (0.0, FIRST_PAUSE_S / 2))[1], LONGEST_PAUSE_S)
        self._later[name] = (self._clock.monotonic() + pause_s, pause_s)
        return pause_s

    def left_s(self, name: str) -> float:
        """How long to wait still; 0 for one that nothing has failed for."""
        return max(self._later.get(name, (0.0, 0.0))[0] - self._clock.monotonic(), 0.0)

    def forget(self, name: str) -> None:
        self._later.pop(name, None)

    def clear(self) -> None:
        self._later.clear()


class Ends:
    """Which accounts are over: when the guest's clock and the host's say so; where the host tells no time, when the
    guest's has come there by itself, without being set."""

    def __init__(self, clock: Clock, host_now: Callable[[], float | None]) -> None:
        """`host_now`: the host's clock, wall time since 1970; None when it has not told lately."""
        self._clock = clock
        self._host_now = host_now
        # What the time was ahead of the monotonic clock when it was first looked at, not over.
        self._ahead_s: dict[str, float] = {}
        # Since when, by the monotonic clock, the guest's clock says that it is over.
        self._doubted: dict[str, float] = {}

    def now(self) -> float:
        """The time that it is at least, as far as the clocks agree."""
        told, wall = self._host_now(), self._clock.wall()
        return wall if told is None else min(wall, told)

    def left_s(self, name: str, expires_s: int) -> float:
        """How long until it is over, or until that is looked at once more; 0 when it is over."""
        now, passed = self.now(), self._clock.monotonic()
        if expires_s > now:
            self._doubted.pop(name, None)
            self._ahead_s.setdefault(name, now - passed)
            return expires_s - now
        if self._host_now() is not None:
            return 0.0
        doubted_s = self._doubted.setdefault(name, passed) + SECOND_LOOK_S - passed
        if name in self._ahead_s:
            doubted_s = min(doubted_s, expires_s - passed - self._ahead_s[name])
        return max(doubted_s, 0.0)

    def forget(self, name: str) -> None:
        self._doubted.pop(name, None)
        self._ahead_s.pop(name, None)
