# SPDX-License-Identifier: Apache-2.0
"""Owns which mechanism of the rule is tried, and when again: what worked last, and what was found wrong.

Runs in the supervisor. It loads nothing.
"""

from ipc.messages.egress import Mechanism
from supervisor.clock import Clock
from supervisor.egress.account import PERIOD, Cause
from supervisor.egress.events import OVERFLOWN
from supervisor.egress.guests import Guests
from supervisor.egress.wanted import MECHANISMS, Wanted

# Failures in a row before the next mechanism takes the place of one that was in force.
STAYS_FOR = 4
LONGEST_DOUBLING = 10
# Better mechanisms are looked at again after so many periods: what is changed in that moment is put back unnoticed.
BETTER_PERIODS = 5


def again_within(failures: int, period_s: float) -> float:
    """Seconds until it is looked at, or tried again: whoever has kept it from being loaded may be gone soon.

    `failures` are those in a row, however many."""
    return min(period_s, 2.0 ** min(failures, LONGEST_DOUBLING) / 2) if failures else period_s


class Choice:
    """`known`: what was in force last. `admits`: by what the sockets are told now, if by anything. `failures`: rounds
    in a row in which nothing worked."""

    def __init__(self, clock: Clock) -> None:
        self.known: Mechanism | None = None
        self.admits: Mechanism | None = None
        self.failures = 0
        self._clock = clock
        # Better ones that were loaded and found wrong: loading those again takes away what is in force. And those that
        # could not be loaded: trying them keeps waiting what is to be put back.
        self._wrong: set[Mechanism] = set()
        self._absent: set[Mechanism] = set()
        self._better_at = 0.0

    def works(self, mechanism: Mechanism) -> None:
        self.known = self.admits = mechanism
        self.failures = 0
        self._wrong.discard(mechanism)
        self._absent.discard(mechanism)

    def failed(self, mechanism: Mechanism, *, unchanged: bool) -> None:
        """It could not be loaded, and nothing was changed; or it was, and found wrong."""
        (self._absent if unchanged else self._wrong).add(mechanism)

    def candidates(self, cause: Cause, wanted: Wanted, guests: Guests) -> list[Mechanism]:
        """In their order. What is put back or looked at stays what it was, though it may fail a few times: nobody gets
        us to a weaker one by a change at the right moment. A better one may work by now."""
        chosen = self._chosen(cause, _usable(wanted, guests))
        if chosen[0] != self.known:
            self._better_at = self._clock.monotonic() + BETTER_PERIODS * wanted.period_s
        return chosen

    def _chosen(self, cause: Cause, usable: list[Mechanism]) -> list[Mechanism]:
        stays = (cause.changed_by or cause is PERIOD) and self.failures < STAYS_FOR
        if not stays or self.known not in usable:
            return usable
        gone, due = cause.changed_by not in {"", OVERFLOWN}, self._clock.monotonic() >= self._better_at
        if self.failures or not (gone or due):
            return [self.known]
        left_out = (set() if gone else self._wrong) | (set() if due else self._absent)
        return [*(each for each in usable[: usable.index(self.known)] if each not in left_out), self.known]

    def look_after_s(self, wanted: Wanted, guests: Guests, *, doubted: bool) -> float | None:
        """When there is something to be found out that nothing tells; None for never."""
        if self.failures or doubted or self.known == "iptables":
            return again_within(self.failures, wanted.period_s)
        return None if self.known == _usable(wanted, guests)[0] else BETTER_PERIODS * wanted.period_s


def _usable(wanted: Wanted, guests: Guests) -> list[Mechanism]:
    by_cgroup = bool(wanted.cgroup) and not guests.root
    return [each for each in MECHANISMS if by_cgroup or each != "nft-cgroup"]
