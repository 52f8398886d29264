# SPDX-License-Identifier: Apache-2.0
"""Owns when the goal state is polled next: every second at first, until one is in force or too long; then as set.

Runs in the supervisor. A poll never begins while another is under way.
"""

from collections.abc import Callable

from supervisor import options
from supervisor.config import Config
from supervisor.loop import Loop, Promise

# config-cli.md 1.2, Extensions.Enabled=n: nothing that comes is carried out.
PERIOD_WHEN_OFF_S = 300.0
# A first goal state that is late comes within seconds; one that can't be read, or written down, may never come.
HURRY_S = 300.0


class Pacing:
    """The rest between polls; `awaits_first` tells whether the first goal state is still to come: it is asked for
    every second, for five minutes from the first poll on."""

    def __init__(self, loop: Loop, config: Config, awaits_first: Callable[[], bool]) -> None:
        self._loop = loop
        self._period_s = float(config[options.GOAL_STATE_PERIOD])
        self._initial_s = float(config[options.INITIAL_GOAL_STATE_PERIOD])
        self._is_off = not config[options.EXTENSIONS_ENABLED]
        self._awaits_first = awaits_first
        self._hurries_until = float("inf")
        self._waiting: list[Promise[None]] = []
        self._woken: Promise[None] = Promise()

    @property
    def period_s(self) -> float:
        """From the end of one poll to the next one."""
        if self._awaits_first() and self._loop.clock.monotonic() < self._hurries_until:
            return self._initial_s
        return PERIOD_WHEN_OFF_S if self._is_off else self._period_s

    def begin(self) -> list[Promise[None]]:
        """A poll begins: what is to be settled with its end."""
        self._hurries_until = min(self._hurries_until, self._loop.clock.monotonic() + HURRY_S)
        waiting, self._waiting = self._waiting, []
        return waiting

    async def next_poll(self) -> None:
        """Have a poll begin as soon as none is under way, and wait for its end; raises how it failed."""
        polled: Promise[None] = Promise()
        self._waiting.append(polled)
        self._woken.fulfil(None)
        await polled

    async def rest(self) -> None:
        """Return when the next poll is due."""
        if self._waiting:
            return
        woken = self._woken = Promise()
        cancel = self._loop.call_later(self.period_s, lambda: woken.fulfil(None))
        try:
            await woken
        finally:
            cancel()
