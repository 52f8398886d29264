# SPDX-License-Identifier: Apache-2.0
"""Owns the rounds through a folder in which others leave events: one after the other, for ever, whatever is in the way.

Runs in the supervisor. What a round takes and removes, whoever makes it says.
"""

from abc import ABC, abstractmethod
from collections import Counter
from typing import Generic, TypeVar

from ipc.errors import AgentError
from supervisor.loop import Loop
from supervisor.telemetry.telemetry import Say, Telemetry

# The parser's way.
Read = TypeVar("Read")


class EventRounds(ABC, Generic[Read]):
    """Those through `folder`; `trouble` is what was in the way of the last one."""

    def __init__(self, loop: Loop, parse: Read, telemetry: Telemetry, folder: str, say: Say) -> None:
        self.trouble = ""
        self._loop = loop
        self._parse = parse
        self._telemetry = telemetry
        self._folder = folder
        self._say = say

    async def run(self, period_s: float) -> None:
        """A round every `period_s`, for ever."""
        while True:
            await self._loop.sleep(period_s)
            await self.once()

    async def once(self) -> None:
        """One round; trouble is noted, and the next one tries again."""
        try:
            problem = await self.sweep()
        except (OSError, AgentError) as error:
            problem = str(error)
        text = f"events in {self._folder} are left for the next round: {problem}" if problem else ""
        if text and text != self.trouble:
            self._say("warning", "telemetry", text)
        self.trouble = text

    @abstractmethod
    async def sweep(self) -> str:
        """Take what is there; what of it stays for the next round, and why. OSError, AgentError: all of it does."""

    def _tell(self, whose: str, dropped: Counter[str]) -> None:
        """All that was dropped, and why, in one event."""
        reasons = [f"{count} {reason}" for reason, count in sorted(dropped.items()) if count]
        if reasons:
            self._telemetry.did("ExtensionTelemetryEventProcessing", False, f"{whose}: dropped {', '.join(reasons)}")
