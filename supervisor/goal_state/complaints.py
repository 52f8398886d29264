# SPDX-License-Identifier: Apache-2.0
"""Owns how often a trouble that goes on is told: the first times each, then once in a long while."""

from supervisor.clock import Clock

FIRST, AGAIN_S = 3, 6 * 3600.0


class Complaints:
    """One kind of trouble, in a row without a success between. `text` is the last of it, empty while all is well."""

    def __init__(self, clock: Clock, *, first: int = FIRST, again_s: float = AGAIN_S) -> None:
        self.text = ""
        self.in_a_row = 0
        self._clock = clock
        self._first = first
        self._again_s = again_s
        self._told_at = float("-inf")

    def note(self, text: str) -> bool:
        """One more; whether it is to be told."""
        self.text = text
        self.in_a_row += 1
        now = self._clock.monotonic()
        is_due = self.in_a_row <= self._first or now - self._told_at >= self._again_s
        if is_due:
            self._told_at = now
        return is_due

    @property
    def again(self) -> str:
        """What follows a trouble that is told for the last time in a while: when it is told again."""
        return f"; said again in {self._again_s / 3600:g} h" if self.in_a_row >= self._first else ""

    def end(self) -> bool:
        """It went well; whether there was trouble before."""
        had = bool(self.in_a_row)
        self.text, self.in_a_row = "", 0
        return had
