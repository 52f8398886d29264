# SPDX-License-Identifier: Apache-2.0
"""Owns what handlers have left to be told to the host: their status files and heartbeats (extensions.md 9).

Runs in the supervisor, which copies files and looks into none: a fresh parser does, for what is new. It must never
wait for a handler, nor keep another one waiting.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

import msgspec

from ipc.descriptors import close_all
from ipc.messages import ExtensionStatus, Heartbeat, InputRefused, Message, ParseHeartbeat, ParseStatusFile
from supervisor.extensions import left_file, naming
from supervisor.extensions.left_file import Stamp, TooLarge, Unreadable
from supervisor.extensions.told import NOTHING, SILENT_S, Found
from supervisor.fleet import Fleet, Unavailable
from supervisor.loop import Loop
from supervisor.worker import WorkerHung, WorkerViolation

T = TypeVar("T", bound=Message)
# Below Lib.Dir, step by step.
Path: TypeAlias = tuple[str, ...]
MOST_BYTES = 1 << 20
UNREADABLE, INVALID = -1, 1012
# So often a file is tried that can't be read, or is none as if it were being written.
TRIES = 5
# A file that was written so shortly ago, and is none, is looked at once more before that is believed.
SETTLED_S = 2.0
# Within one tick of the kernel's clock a file can change twice and keep its time.
TICK_NS = 10_000_000
# So many are read at a time, of the parsers that policy allows; and so long one that parsers die of is left alone.
AT_ONCE = 4
PAUSE_S = 60.0


class Place(msgspec.Struct, frozen=True):
    """Where an extension of an installed handler leaves its status; `extension` is empty for a handler that has one.
    Without a `sequence_number` it has no settings, and leaves none. `has_heartbeat`: its manifest promises one."""

    handler: str
    version: str
    extension: str = ""
    sequence_number: int | None = None
    has_heartbeat: bool = False

    @property
    def folder(self) -> str:
        return naming.folder_name(self.handler, self.version)

    @property
    def status_file(self) -> str:
        return naming.status_file(self.extension, self.sequence_number)


class _Seen(msgspec.Struct):
    """One file as it was when it was last read, by `stamp`; `is_due`: it is to be read again whatever its stamp, though
    not before `not_before` (monotonic seconds). `answer` is the parser's; `problem` is why there is none."""

    stamp: Stamp | None = None
    answer: Message | None = None
    problem: str = ""
    code: int = 0
    is_due: bool = True
    not_before: float = float("-inf")
    failures: int = 0
    reading: int = 0


NEVER = _Seen()


class StatusFiles:
    """All that is looked for. `on_change` is called once something else is found than before."""

    def __init__(self, loop: Loop, fleet: Fleet, lib: str) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._loop = loop
        self._fleet = fleet
        self._lib = lib
        self._found: dict[Place, Found] = {}
        self._seen: dict[Path, _Seen] = {}
        self._readings = itertools.count(1)
        self._being_read: set[Place] = set()

    def watch(self, places: Iterable[Place]) -> None:
        """From now on these, and no others; nothing is read here."""
        self._found = {place: self._found.get(place, NOTHING) for place in places}
        wanted = {path for place in self._found for path in _paths(place)}
        self._seen = {path: seen for path, seen in self._seen.items() if path in wanted}

    def found(self, place: Place) -> Found:
        """What was known of it after the last look; nothing before the first."""
        return self._found.get(place, NOTHING)

    def begin_look(self) -> None:
        """Look at all; what is new is read beside whatever else goes on, and of many that are new a few at once."""
        for place in self._found:
            self._note(place)
        due = [place for place in self._found if place not in self._being_read and self._is_due(place)]
        # Whoever has waited longest comes first: one that has something new each time takes no other's turn.
        due.sort(key=lambda place: max(self._seen.get(path, NEVER).reading for path in _paths(place)))
        for place in due[: AT_ONCE - len(self._being_read)]:
            self._being_read.add(place)
            self._loop.start(f"status of {place.folder}", self._look_apart(place), detached=True)

    async def look(self, handler: str) -> None:
        """Look at those of `handler`; returns once they are known as they were after this call."""
        for place in [each for each in self._found if each.handler == handler]:
            await self._look_at(place)

    async def _look_apart(self, place: Place) -> None:
        try:
            await self._look_at(place)
        finally:
            self._being_read.discard(place)

    async def _look_at(self, place: Place) -> None:
        for path in _paths(place):
            is_status = path == _status(place)
            await self._read(
                path,
                ParseStatusFile() if is_status else ParseHeartbeat(),
                ExtensionStatus if is_status else Heartbeat,
            )
        self._note(place)

    def _note(self, place: Place) -> None:
        """Tell if anything else is found there than before; a heartbeat grows old by itself."""
        if place in self._found and self._found[place] != (found := self._now_found(place)):
            self._found[place] = found
            self.on_change()

    def _now_found(self, place: Place) -> Found:
        status, beat = self._seen.get(_status(place)), self._seen.get(_heartbeat(place))
        told = _as_status(place, status) if status is not None else None
        if not place.has_heartbeat or beat is None:
            return Found(told)
        if not isinstance(beat.answer, Heartbeat) or beat.stamp is None:
            return Found(
                told, no_beat=beat.problem or "heartbeat.log is not there, and the handler's manifest promises it"
            )
        return Found(told, beat.answer, is_old=self._loop.clock.wall() - beat.stamp.modified_ns / 1e9 > SILENT_S)

    def _is_due(self, place: Place) -> bool:
        return any(self._is_new(path, self._seen.setdefault(path, _Seen())) for path in _paths(place))

    def _is_new(self, path: Path, seen: _Seen) -> bool:
        """Whether there is anything to be read, by a look at the file's stamp alone."""
        if seen.is_due:
            return self._loop.clock.monotonic() >= seen.not_before
        try:
            with self._folder(path) as folder:
                return left_file.stamp(folder, path[-1]) != seen.stamp
        except FileNotFoundError:
            return seen.stamp is not None or bool(seen.problem)
        except (Unreadable, OSError):
            return seen.code != UNREADABLE

    async def _read(self, path: Path, request: Message, kind: type[T]) -> None:
        """Bring what is known of one file up to date."""
        seen = self._seen.setdefault(path, _Seen())
        if not self._is_new(path, seen):
            return
        reading = next(self._readings)
        try:
            with self._folder(path) as folder:
                stamp, memfd = left_file.copy(folder, path[-1], MOST_BYTES)
            answer, problem = await self._parsed(request, memfd, kind)
        except FileNotFoundError:
            _settle(seen, reading, _Seen(is_due=False))
        except TooLarge as error:
            _settle(seen, reading, _Seen(error.stamp, problem=str(error), code=INVALID, is_due=False))
        except (Unreadable, OSError, Unavailable) as error:
            self._fail(seen, reading, error)
        else:
            self._take(seen, reading, stamp, _Seen(stamp, answer, problem, INVALID if problem else 0))

    @contextmanager
    def _folder(self, path: Path) -> Iterator[int]:
        if any(step in {"", ".", ".."} or "/" in step or "\0" in step for step in path):
            raise Unreadable(f"no file can be called {'/'.join(path)}", lasting=True)
        folder = left_file.enter(self._lib, *path[:-1])
        try:
            yield folder
        finally:
            os.close(folder)

    async def _parsed(self, request: Message, memfd: int, kind: type[T]) -> tuple[T | None, str]:
        """What a parser makes of it, or why that is nothing: a file on which parsers die is not given to more."""
        try:
            received = await self._fleet.do("parser", request, (memfd,), final=(kind,))
        except (WorkerHung, WorkerViolation) as error:
            return None, f"its reader did not get through it: {error}"
        finally:
            os.close(memfd)
        answer, descriptors = received[-1]
        close_all(descriptors)
        if isinstance(answer, kind):
            return answer, ""
        said = f"{answer.where}: {answer.problem}" if isinstance(answer, InputRefused) else type(answer).__name__
        return None, said

    def _take(self, seen: _Seen, reading: int, stamp: Stamp, now: _Seen) -> None:
        """Believe what was read, unless it looks as if it was still being written."""
        age_ns = int(self._loop.clock.wall() * 1e9) - stamp.modified_ns
        if _is_broken(now) and 0 <= age_ns < SETTLED_S * 1e9 and seen.failures < TRIES - 1:
            seen.failures += 1
            seen.is_due = True
            return
        now.is_due = 0 <= age_ns < TICK_NS
        _settle(seen, reading, now)

    def _fail(self, seen: _Seen, reading: int, error: Exception) -> None:
        """It could not be read; what is known of it stays until that is certain."""
        seen.failures += 1
        seen.reading = reading
        seen.is_due = True
        is_certain = seen.failures >= TRIES or (isinstance(error, Unreadable) and error.lasting)
        if is_certain:
            seen.answer, seen.problem, seen.code = None, str(error), UNREADABLE
            # What no parser survives is not given to one after another.
            seen.not_before = self._loop.clock.monotonic() + (PAUSE_S if isinstance(error, Unavailable) else 0)


def _settle(seen: _Seen, reading: int, now: _Seen) -> None:
    """`now` counts, unless a reading that began later was faster."""
    if reading > seen.reading:
        seen.stamp, seen.answer, seen.problem, seen.code = now.stamp, now.answer, now.problem, now.code
        seen.is_due, seen.failures, seen.reading = now.is_due, 0, reading


def _is_broken(now: _Seen) -> bool:
    answer = now.answer
    return answer is None or (isinstance(answer, ExtensionStatus) and answer.code == INVALID)


def _as_status(place: Place, seen: _Seen) -> ExtensionStatus | None:
    if isinstance(seen.answer, ExtensionStatus):
        return seen.answer
    if not seen.problem:
        return None
    text = f"{place.folder}/status/{place.status_file} is not used: {seen.problem}"
    return ExtensionStatus(place.extension or place.handler, "", "", "error", seen.code, text)


def _status(place: Place) -> Path:
    return (place.folder, "status", place.status_file)


def _heartbeat(place: Place) -> Path:
    return (place.folder, "heartbeat.log")


def _paths(place: Place) -> tuple[Path, ...]:
    """The files that there should be."""
    status = (_status(place),) if place.sequence_number is not None else ()
    return (*status, _heartbeat(place)) if place.has_heartbeat else status
