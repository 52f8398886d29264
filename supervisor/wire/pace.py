# SPDX-License-Identifier: Apache-2.0
"""Owns how often the host may be called within a while, where it has a limit (wire-protocol.md 3, request 10).

Runs in the supervisor. Nobody is refused: who comes too soon waits.
"""

from collections import deque

from supervisor.loop import Loop


class Pace:
    """At most `calls` turns in any `seconds`."""

    def __init__(self, loop: Loop, calls: int, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._taken: deque[float] = deque([float("-inf")] * calls, calls)

    async def turn(self) -> None:
        """Return when it is one's turn."""
        now = self._loop.clock.monotonic()
        # Noted at once: whoever comes meanwhile comes after it.
        mine = max(now, self._taken[0] + self._seconds)
        self._taken.append(mine)
        if mine > now:
            await self._loop.sleep(mine - now)
