# SPDX-License-Identifier: Apache-2.0
"""Owns the way of an event from whoever notes it to the disk: redacted, gathered for a moment, kept.

Runs in the supervisor. Switched off it takes nothing, keeps nothing and sends nothing.
"""

import os
from collections.abc import Callable, Sequence

import msgspec

from ipc.errors import StateError
from supervisor.clock import stamp
from supervisor.loop import Loop
from supervisor.status import TelemetryShown
from supervisor.telemetry.envelope import Common, provider
from supervisor.telemetry.events import AgentEvent, Counter, Event, Source, cleaned
from supervisor.telemetry.sender import Post, Sender
from supervisor.telemetry.spool import EVENTS_A_FILE, Spool

# wire-protocol.md 11: events are gathered until there are 30, or for 5 s.
GATHER_S = 5.0
# While nothing can be written, this many wait in memory and no more.
MOST_GATHERED = 300
AGAIN_S = 60.0
Say = Callable[[str, str, str], None]


class Telemetry:
    """Takes events; `dropped` counts those that there was no room for."""

    def __init__(self, loop: Loop, spool: Spool | None, sender: Sender | None, clean: Callable[[str], str]) -> None:
        """Without a `spool` it is switched off."""
        self.dropped = 0
        self.trouble = ""
        self.sender = sender
        self._loop = loop
        self._spool = spool
        self._clean = clean
        self._gathered: list[Event] = []
        self._is_due = False

    @property
    def is_on(self) -> bool:
        return self._spool is not None

    @property
    def waiting(self) -> int:
        """How many events the host has not taken yet."""
        return len(self._gathered) + (self._spool.events if self._spool is not None else 0)

    @property
    def lost(self) -> int:
        """How many events the host will never have: no room, torn, or refused."""
        spooled = self._spool.lost if self._spool is not None else 0
        return self.dropped + spooled + (self.sender.refused if self.sender is not None else 0)

    def shown(self) -> TelemetryShown:
        """How it stands."""
        sender = self.sender
        sent, trouble = (sender.sent, sender.trouble) if sender is not None else (0, "")
        return TelemetryShown(self.is_on, sent, self.waiting, self.lost, self.trouble or trouble)

    async def send(self) -> None:
        """Send what is there and what comes, for ever."""
        if self.sender is not None:
            await self.sender.run()

    def did(self, operation: str, succeeded: bool, message: str) -> None:
        """Note something that the agent did or met."""
        self.note(AgentEvent(self.source(), operation, succeeded, message))

    def count(self, category: str, counter: str, instance: str, value: float) -> None:
        """Note a measurement."""
        self.note(Counter(self.source(), category, counter, instance, value))

    def source(self, task: str = "supervisor") -> Source:
        """This process, now."""
        pid = str(os.getpid())
        return Source(stamp(self._loop.clock.wall()), task, pid, pid)

    def note(self, event: Event) -> None:
        """Take `event`: on disk within some seconds, with whatever else comes meanwhile."""
        if self._spool is None:
            return
        if len(self._gathered) >= MOST_GATHERED:
            self.dropped += 1
            return
        self._gathered.append(cleaned(event, self._clean))
        if len(self._gathered) == EVENTS_A_FILE:
            self.flush()
        else:
            self._flush_later(GATHER_S)

    def keep(self, events: Sequence[Event]) -> None:
        """Take `events`, all of one provider: on disk when this returns. StateError when that can't be."""
        if self._spool is None or not events:
            return
        self._spool.add([cleaned(event, self._clean) for event in events])
        self._send()

    def flush(self) -> None:
        """Write what was gathered; what can't be written now stays gathered."""
        if self._spool is None:
            return
        try:
            while self._gathered:
                name = provider(self._gathered[0])
                batch = [event for event in self._gathered if provider(event) == name][:EVENTS_A_FILE]
                self._spool.add(batch)
                written = {id(event) for event in batch}
                self._gathered = [event for event in self._gathered if id(event) not in written]
            self.trouble = ""
        except StateError as error:
            self.trouble = str(error)
            self._flush_later(AGAIN_S)
        self._send()

    def _flush_later(self, seconds: float) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_later(seconds, self._flush_due)

    def _flush_due(self) -> None:
        self._is_due = False
        self.flush()

    def _send(self) -> None:
        if self.sender is not None:
            self.sender.wake()


class Wiring(msgspec.Struct, frozen=True):
    """What telemetry works with."""

    loop: Loop
    post: Post
    common: Callable[[], Common]
    clean: Callable[[str], str]
    say: Say


def switched_on(folder: str, wiring: Wiring) -> Telemetry:
    """Telemetry with its files in `folder`; switched off, and said, when there can be none."""
    try:
        spool = Spool(folder, wiring.say)
    except StateError as error:
        wiring.say("warning", "telemetry", f"nothing is sent in this life of the agent: {error}")
        return Telemetry(wiring.loop, None, None, wiring.clean)
    sender = Sender(wiring.loop, spool, wiring.post, wiring.common, wiring.say)
    return Telemetry(wiring.loop, spool, sender, wiring.clean)


def switched_off(folder: str, wiring: Wiring) -> Telemetry:
    """Telemetry that is none; what an earlier life has kept in `folder` is removed unsent."""
    if os.path.isdir(folder):
        try:
            Spool(folder, wiring.say).empty()
        except StateError as error:
            wiring.say("warning", "telemetry", f"switched off; what was kept stays on disk, unsent: {error}")
    return Telemetry(wiring.loop, None, None, wiring.clean)
