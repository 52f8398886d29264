# SPDX-License-Identifier: Apache-2.0
"""Owns how fast a handler is served: so many messages a second on the average, and as many at once at most.

Runs in the supervisor. Nobody is refused for being fast: who is waits.
"""

from supervisor.loop import Loop

A_SECOND = 20


class Pace:
    """A bucket of A_SECOND that fills as fast as it may be emptied."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._left = float(A_SECOND)
        self._at = loop.clock.monotonic()

    async def wait(self) -> None:
        """Return when one more may be served."""
        now = self._loop.clock.monotonic()
        self._left = min(A_SECOND, self._left + (now - self._at) * A_SECOND) - 1
        self._at = now
        if self._left < 0:
            await self._loop.sleep(-self._left / A_SECOND)
