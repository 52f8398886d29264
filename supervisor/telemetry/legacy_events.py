# SPDX-License-Identifier: Apache-2.0
"""Owns the collecting of events that old extensions leave as LIB/events/*.tld, one in each file (wire-protocol.md 11).

Runs in the supervisor. It opens no link and nothing but regular files, and looks into none: a parser does. A file goes
once its event is on our disk; whatever else lies there is left alone.
"""

import heapq
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from ipc.errors import AgentError
from ipc.messages import EventRecord, ParseEventRecord
from supervisor.contact import UnusableDocument
from supervisor.loop import Loop, Promise
from supervisor.telemetry.event_rounds import EventRounds
from supervisor.telemetry.events import AgentEvent, Source
from supervisor.telemetry.extension_events import TOO_MANY, UNREADABLE, content_of, opened, unlink
from supervisor.telemetry.telemetry import Say, Telemetry

SUFFIX = ".tld"
# A parser is started for each. What no round has room for goes, the oldest first.
MOST_A_ROUND, MOST_FILES = 60, 1000

Read: TypeAlias = Callable[
    [ParseEventRecord, str, bytes, type[EventRecord]], Coroutine[Promise[Any], None, EventRecord]
]


class LegacyEvents(EventRounds[Read]):
    """The rounds through the folder `folder`."""

    def __init__(self, loop: Loop, parse: Read, telemetry: Telemetry, folder: str, say: Say) -> None:
        super().__init__(loop, parse, telemetry, folder, say)
        # The file for which there was no parser, or on which one has died, in the last round.
        self._failed = ""

    async def sweep(self) -> str:
        """All of it stays, or none."""
        with opened(self._folder) as folder:
            if folder is not None:
                await self._sweep(folder)
        return ""

    async def _sweep(self, folder: int) -> None:
        dropped: Counter[str] = Counter()
        names = _newest(folder)
        for name in names[:MOST_A_ROUND]:
            if self._telemetry.is_on:
                await self._take(folder, name, dropped)
            unlink(folder, name)
        for name in _beyond(folder, set(names)):
            dropped[TOO_MANY] += self._telemetry.is_on
            unlink(folder, name)
        self._tell("events", dropped)

    async def _take(self, folder: int, name: str, dropped: Counter[str]) -> None:
        """Keep the event of one file. AgentError where the file is to stay."""
        content, problem = content_of(folder, name)
        if problem:
            dropped[problem] += 1
            return
        written = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
        try:
            record = await self._parse(ParseEventRecord(), "event-record", content, EventRecord)
        except UnusableDocument:
            dropped[UNREADABLE] += 1
        except AgentError:
            if self._failed != name:
                self._failed = name
                raise
            dropped[UNREADABLE] += 1
        else:
            self._telemetry.keep([self._event(record, written)])

    def _event(self, record: EventRecord, written: float) -> AgentEvent:
        own = self._telemetry.source()
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(written))
        return AgentEvent(
            Source(at, own.task, own.pid, own.tid),
            record.operation,
            record.succeeded,
            record.message,
            record.duration_ms,
            record.name,
            record.version,
        )


def _newest(folder: int) -> list[str]:
    """The files of events, the highest names first, which begin with the time; of however many, few are in memory."""
    with os.scandir(folder) as entries:
        return heapq.nlargest(MOST_FILES, (entry.name for entry in entries if entry.name.endswith(SUFFIX)))


def _beyond(folder: int, kept: set[str]) -> list[str]:
    """Those that there is no room for, as many as there were at the beginning at most."""
    if len(kept) < MOST_FILES:
        return []
    with os.scandir(folder) as entries:
        oldest = (entry.name for entry in entries if entry.name.endswith(SUFFIX) and entry.name < min(kept))
        return heapq.nsmallest(MOST_FILES, oldest)
