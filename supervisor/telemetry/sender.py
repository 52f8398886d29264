# SPDX-License-Identifier: Apache-2.0
"""Owns the way of spooled events to the host: packed, and removed only once the host has them.

Runs in the supervisor. Killed between the two it sends a batch twice, and loses none.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ipc.errors import HostError, HostRefused, StateError
from supervisor.loop import Loop, Promise
from supervisor.telemetry.envelope import Common, bodies, provider
from supervisor.telemetry.events import Event
from supervisor.telemetry.spool import Spool

# The service takes 15 calls in 15 s of one VM. What an earlier life has sent is not known here: so far apart they are
# never more, whoever was killed when.
GAP_S = 1.1
# A host that does not take events is left in peace for so long.
PERIOD_S = 60.0
REPEAT_S = 3600.0
# Gathered for one body: as many files as fill it at the least size that events have.
MOST_FILES = 8
# It says that these very bytes are wrong: they would be so again.
FINAL = frozenset({400, 404, 405, 411, 413, 415, 422})


class Post(Protocol):
    """The WireServer, as far as it takes telemetry: three attempts, paced, then HostError."""

    def __call__(self, body: bytes, *, urgent: bool) -> Coroutine[Promise[Any], None, None]: ...


class Sender:
    """The one that sends. `trouble` is why the last attempt failed, empty if it did not; `refused` counts events that
    the host would not have, or that are too large for it."""

    def __init__(
        self, loop: Loop, spool: Spool, post: Post, common: Callable[[], Common], say: Callable[[str, str, str], None]
    ) -> None:
        self.trouble = ""
        self.refused = 0
        self.sent = 0
        self._loop = loop
        self._spool = spool
        self._post = post
        self._common = common
        self._say = say
        self._woken: Promise[None] = Promise()
        self._said_at: dict[str, float] = {}

    def wake(self) -> None:
        """There is something to send."""
        self._woken.fulfil(None)

    async def run(self) -> None:
        """For ever; nothing wakes it while nothing waits."""
        while True:
            if not self._spool.files:
                self._woken = Promise()
                await self._woken
            try:
                await self._send_oldest()
            except HostError as error:
                self.trouble = str(error)
                self._warn("host", f"events are not taken: {error}; tried again every {PERIOD_S:g} s")
                await self._loop.sleep(PERIOD_S)
            else:
                self.trouble = ""

    async def _send_oldest(self) -> None:
        """Send as many of the oldest files as go together; HostError when the host has not taken them."""
        ends, events = self._gather()
        done = 0
        for packed in bodies(events, self._common()):
            if packed.body:
                await self._send(packed.body, packed.events)
            else:
                self.refused += packed.events
                self._warn("size", "an event is too large for any request, and is dropped")
            done += packed.events
            self._remove([number for number, end in ends.items() if end <= done])
            if packed.body:
                await self._loop.sleep(GAP_S)

    def _gather(self) -> tuple[dict[int, int], list[Event]]:
        """Files from the oldest on, as long as they are of one provider: by number, which event is their last one."""
        ends: dict[int, int] = {}
        events: list[Event] = []
        for number in self._spool.files[:MOST_FILES]:
            found = self._spool.read(number)
            if found and events and provider(found[0]) != provider(events[0]):
                break
            events += found
            ends[number] = len(events)
        self._remove([number for number, end in ends.items() if end == 0])
        return ends, events

    def _remove(self, numbers: list[int]) -> None:
        """The host has all that is in these files, or will never have it."""
        for number in numbers:
            try:
                self._spool.remove(number)
            except StateError as error:
                self._warn("spool", f"{error}; the next start sends it again")

    async def _send(self, body: bytes, count: int) -> None:
        try:
            await self._post(body, urgent=False)
        except HostRefused as error:
            if error.status not in FINAL:
                raise
            self.refused += count
            self._warn("refused", f"{count} events are dropped, since the host won't have them: {error}")
        else:
            self.sent += count

    def _warn(self, about: str, text: str) -> None:
        """Say it, at most once an hour."""
        now = self._loop.clock.monotonic()
        if now - self._said_at.get(about, float("-inf")) >= REPEAT_S:
            self._said_at[about] = now
            self._say("warning", "telemetry", text)
