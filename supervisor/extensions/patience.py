# SPDX-License-Identifier: Apache-2.0
"""Owns how long those of a goal state that depend on others wait for them (extensions.md 3), through restarts of the
agent and of the machine. Runs in the supervisor.

Within a boot its own clock counts, which nobody sets; from one boot to the next there is the wall clock alone.
"""

from collections.abc import Callable

from ipc.errors import StateError
from supervisor.clock import Clock
from supervisor.extension_records import WaitBegun, Waiting
from supervisor.journal import Journal

# So long may all of a goal state's extensions be waited for by those that depend on them.
DEADLINE_S = 90 * 60.0
# After a reboot they get as much at least: the wall clock may be wrong by any time, and they have just begun again.
AFTER_BOOT_S = 10 * 60.0


class Patience:
    """`boot` is the kernel's id of this boot; `say` takes a warning."""

    def __init__(self, journal: Journal, clock: Clock, boot: str, say: Callable[[str], None]) -> None:
        self._journal = journal
        self._clock = clock
        self._boot = boot
        self._say = say

    def ends(self, goal_state: str) -> float:
        """Until when they wait in that goal state, by the monotonic clock; its waiting begins with the first call."""
        now, known = self._clock.monotonic(), self._journal.state.extensions.waiting
        if known is not None and (known.goal_state, known.boot) == (goal_state, self._boot):
            return known.monotonic_s + DEADLINE_S - known.spent_s
        spent = self._spent(known) if known is not None and known.goal_state == goal_state else 0.0
        try:
            self._journal.append(WaitBegun(Waiting(goal_state, self._boot, now, self._clock.wall(), spent)))
        except StateError as error:
            self._say(f"how long extensions wait for others begins anew with the next start of the agent: {error}")
        return now + DEADLINE_S - spent

    def _spent(self, before: Waiting) -> float:
        """What had been waited when this boot began, as far as anybody knows."""
        passed = max(0.0, self._clock.wall() - before.wall_s)
        return max(before.spent_s, min(before.spent_s + passed, DEADLINE_S - AFTER_BOOT_S))
