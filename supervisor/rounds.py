# SPDX-License-Identifier: Apache-2.0
"""Owns what happens on each poll of the goal state, for as long as the agent runs.

Runs in the supervisor. A poll whose bytes are those of the last one must cost nothing more than its request.
"""

from collections.abc import Callable

from ipc.errors import HostError
from supervisor.contact import Contact
from supervisor.loop import Loop

# A host that stays away is said once an hour, not every six seconds.
REPEAT_TROUBLE_S = 3600.0


class Rounds:
    """The poll loop; `trouble` is why the last poll brought nothing, for `ps`."""

    def __init__(self, loop: Loop, contact: Contact, period_s: float, say: Callable[[str, str, str], None]) -> None:
        self.trouble = ""
        self._loop = loop
        self._contact = contact
        self._period_s = period_s
        self._say = say
        self._said_at = float("-inf")

    def stay_away(self, why: str) -> None:
        """No poll, for as long as this process lives: the agent was told to do nothing."""
        self.trouble = f"asleep, since {why}; remove it and start the agent to have goal states asked for"
        self._say("info", "host", self.trouble)

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            await self.once()
            await self._loop.sleep(self._period_s)

    async def once(self) -> None:
        """One poll; trouble is noted and the next poll tries again."""
        try:
            new = await self._contact.refresh()
        except HostError as error:
            self._note_trouble(str(error))
            return
        if self.trouble:
            self._say("info", "host", "answers again")
            self.trouble = ""
        goal_state = self._contact.goal_state
        if new and goal_state is not None:
            self._say("info", "host", f"goal state {goal_state.incarnation}, container {goal_state.container_id}")

    def _note_trouble(self, text: str) -> None:
        now = self._loop.clock.monotonic()
        if text != self.trouble or now - self._said_at >= REPEAT_TROUBLE_S:
            self._say("warning", "host", f"{text}; asked again every {self._period_s:g} s")
            self._said_at = now
        self.trouble = text
