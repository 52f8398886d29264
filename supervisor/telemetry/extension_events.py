# SPDX-License-Identifier: Apache-2.0
"""Owns the collecting of events that extensions leave in files (extensions.md, telemetry).

Runs in the supervisor. It opens no link and nothing but regular files, and looks into none: a parser does. A file goes
once its events are on our disk, and whatever else lies in such a folder goes as well.
"""

import heapq
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from ipc.errors import AgentError
from ipc.messages import ExtensionEvent, ExtensionEvents, ParseEventFile
from supervisor.contact import UnusableDocument
from supervisor.loop import Loop, Promise
from supervisor.telemetry.event_rounds import EventRounds
from supervisor.telemetry.events import LogEvent, Source
from supervisor.telemetry.spool import EVENTS_A_FILE
from supervisor.telemetry.telemetry import Say, Telemetry

MOST_EVENTS = 360
MOST_FILE_BYTES = 4 << 20
# A parser is started for each file; with more of them than events may be sent, the rest could bring none.
MOST_FILES = MOST_EVENTS
MOST_HANDLERS = 128
# What is being written is left to be finished.
RESIDUE_S = 300.0
# So many files are removed at a stretch before others get their turn.
STRETCH = 200
HANDLER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+")
NUMBERED = re.compile(r"([0-9]{1,20})\.json")
TOO_MANY, TOO_LARGE, NO_FILE, UNREADABLE = "over the limit of a period", "file too large", "no file", "not readable"

# The parser's way: a request, the document's name, its bytes, and what is to come back.
Read: TypeAlias = Callable[
    [ParseEventFile, str, bytes, type[ExtensionEvents]], Coroutine[Promise[Any], None, ExtensionEvents]
]


class Stopped(AgentError):
    """Not now: what lies there stays for the next time."""


class Collector(EventRounds[Read]):
    """The rounds through the folders of handlers below `folder`."""

    def __init__(self, loop: Loop, parse: Read, telemetry: Telemetry, folder: str, say: Say) -> None:
        super().__init__(loop, parse, telemetry, folder, say)
        # Files on which a parser has died, or for which there was none, in the last round: they got one more chance.
        self._failed: set[tuple[str, str]] = set()
        self._failing: set[tuple[str, str]] = set()

    async def sweep(self) -> str:
        """One handler's trouble is no other's."""
        self._failed, self._failing = self._failing, set()
        trouble = ""
        for handler in self._handlers():
            try:
                await self._sweep(handler)
            except (OSError, Stopped) as error:
                trouble = trouble or f"{handler}: {error}"
        return trouble

    def _handlers(self) -> list[str]:
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            named = (entry.name for entry in entries if HANDLER.fullmatch(entry.name) and len(entry.name) < 128)
            return heapq.nsmallest(MOST_HANDLERS, named)
        return []

    async def _sweep(self, handler: str) -> None:
        """Take what lies there for one handler, newest first, and leave its folder empty."""
        with opened(f"{self._folder}/{handler}") as own, opened("events", own) as events:
            if events is None:
                return
            names = _newest(events)
            newest = int(NUMBERED.fullmatch(names[0])[1]) if names else -1  # type: ignore[index]
            dropped: Counter[str] = Counter()
            if self._telemetry.is_on:
                await self._take(handler, events, names, dropped)
            await self._clear(events, newest, dropped)
            self._tell(handler, dropped)

    async def _take(self, handler: str, folder: int, names: list[str], dropped: Counter[str]) -> None:
        room = MOST_EVENTS
        for name in names:
            if room <= 0:
                return
            content, problem = content_of(folder, name)
            if problem:
                dropped[problem] += 1
            else:
                room -= await self._take_file(handler, name, content, room, dropped)
            unlink(folder, name)

    async def _take_file(self, handler: str, name: str, content: bytes, room: int, dropped: Counter[str]) -> int:
        """Keep what one file has; how many events that were. Stopped where the file is to stay."""
        try:
            events = await self._read_all(content, room, dropped)
        except UnusableDocument:
            dropped[UNREADABLE] += 1
            return 0
        except AgentError as error:
            if (handler, name) in self._failed:
                dropped[UNREADABLE] += 1
                return 0
            self._failing.add((handler, name))
            raise Stopped(f"events/{name}: {error}") from None
        for at in range(0, len(events), EVENTS_A_FILE):
            self._telemetry.keep([self._event(handler, each) for each in events[at : at + EVENTS_A_FILE]])
            # Looking for secrets in all of them at once would keep a status waiting.
            await self._loop.sleep(0)
        return len(events)

    async def _read_all(self, content: bytes, room: int, dropped: Counter[str]) -> list[ExtensionEvent]:
        """At most `room` events of a document; what one answer has no room for is asked for with a next one."""
        events: list[ExtensionEvent] = []
        first: int | None = 0
        while first is not None:
            if len(events) >= room:
                dropped[TOO_MANY] += 1
                break
            found = await self._parse(ParseEventFile(first), "event-file", content, ExtensionEvents)
            dropped.update({each.reason: each.count for each in found.dropped})
            taken = found.events[: room - len(events)]
            dropped[TOO_MANY] += len(found.events) - len(taken)
            events += taken
            # Without an event there is no progress, whatever an answer says.
            first = found.next if found.events else None
        return events

    def _event(self, handler: str, event: ExtensionEvent) -> LogEvent:
        at = self._telemetry.source().at
        return LogEvent(
            Source(at, event.task_name, event.pid, event.tid),
            f"{handler}-{event.version}",
            event.level,
            event.message,
            event.timestamp,
            event.operation_id,
        )

    async def _clear(self, folder: int, newest: int, dropped: Counter[str]) -> None:
        """Remove every file that was there when the round began, and residue; what is newer waits for the next."""
        before = self._loop.clock.wall() - RESIDUE_S
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries, 1):
                numbered = NUMBERED.fullmatch(entry.name)
                if numbered is not None and int(numbered[1]) <= newest:
                    dropped[TOO_MANY] += self._telemetry.is_on
                    unlink(folder, entry.name)
                elif numbered is None and _is_residue(entry, before):
                    unlink(folder, entry.name)
                if count % STRETCH == 0:
                    await self._loop.sleep(0)


@contextmanager
def opened(path: str, within: int | None = None) -> Iterator[int | None]:
    """The folder `path`, never by a link; None where there is none, or `within` is None for a name."""
    descriptor = None
    with suppress(FileNotFoundError, NotADirectoryError):
        if within is not None or path.startswith("/"):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, dir_fd=within)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _newest(folder: int) -> list[str]:
    """The files of events with the highest numbers, the highest first; of however many there are, few are in memory."""
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries if NUMBERED.fullmatch(entry.name))
        return heapq.nlargest(MOST_FILES, names, key=lambda name: int(name.partition(".")[0]))


def content_of(folder: int, name: str) -> tuple[bytes, str]:
    """What one file holds, or why it is not read."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return b"", NO_FILE
    try:
        status = os.fstat(descriptor)
        # A second name elsewhere may be that of a file that nobody gave us.
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            return b"", NO_FILE
        if status.st_size > MOST_FILE_BYTES:
            return b"", TOO_LARGE
        content = os.read(descriptor, MOST_FILE_BYTES + 1)
        return (content, "") if len(content) <= MOST_FILE_BYTES else (b"", TOO_LARGE)
    except OSError:
        return b"", UNREADABLE
    finally:
        os.close(descriptor)


def _is_residue(entry: "os.DirEntry[str]", before: float) -> bool:
    """Whether it is no folder, and older than the wall time `before`."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return not stat.S_ISDIR(status.st_mode) and status.st_mtime < before


def unlink(folder: int, name: str) -> None:
    """Remove one file; what can't be removed stays."""
    with suppress(OSError):
        os.unlink(name, dir_fd=folder)
