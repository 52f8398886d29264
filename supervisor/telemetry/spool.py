# SPDX-License-Identifier: Apache-2.0
"""Owns the events on disk that the host has not taken yet: written whole, bounded, kept through any crash.

Runs in the supervisor, below its own folder. A file goes only once all that is in it was accepted, or to make room.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from ipc.errors import StateError
from supervisor.files import make_folder, remove, write_whole
from supervisor.telemetry.events import AgentEvent, Counter, Event, LogEvent

# wire-protocol.md 11 has so many files, with one event each; here each holds up to EVENTS_A_FILE.
MOST_FILES = 1000
MOST_BYTES = 16 << 20
EVENTS_A_FILE = 30
# Larger than thirty events can be in any encoding of ours.
MOST_FILE_BYTES = 1 << 20
MODE = 0o600
SUFFIX = ".events"
# Decoding takes shape and types from here: what does not fit is no file of ours, or torn.
Stored = tuple[AgentEvent | Counter | LogEvent, ...]


class _File(msgspec.Struct, frozen=True):
    """One file: its name says how many events are in it, so that nothing has to be read to know what is lost."""

    number: int
    events: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.number:012d}.{self.events}{SUFFIX}"


class Spool:
    """The files, oldest first. `lost` counts events that went to make room, or were torn."""

    def __init__(self, folder: str, say: Callable[[str, str, str], None]) -> None:
        """Look at what an earlier life has left in `folder`. StateError when it can't be made or read."""
        self.lost = 0
        self._folder = folder
        self._say = say
        make_folder(folder, 0o700)
        self._files = {file.number: file for file in self._look()}
        self._next = max(self._files, default=0) + 1

    @property
    def files(self) -> tuple[int, ...]:
        """The files' numbers, in the order in which they were written."""
        return tuple(self._files)

    @property
    def events(self) -> int:
        """How many events wait."""
        return sum(file.events for file in self._files.values())

    def add(self, events: Sequence[Event]) -> None:
        """Keep `events`, all of one provider; on disk when this returns. StateError when they can't be written."""
        for at in range(0, len(events), EVENTS_A_FILE):
            self._write(events[at : at + EVENTS_A_FILE])

    def read(self, number: int) -> Stored:
        """The events of one file; one that is torn, or not ours, is removed, said, and empty."""
        path = self._path(self._files[number])
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                content = os.read(descriptor, MOST_FILE_BYTES)
            finally:
                os.close(descriptor)
            return msgspec.msgpack.decode(content, type=Stored)
        except (OSError, msgspec.MsgspecError) as error:
            self._say("warning", "telemetry", f"{path} holds no events as they were written, and is removed: {error}")
            self._lose(number)
            return ()

    def remove(self, number: int) -> None:
        """The host has what is in this file. StateError when it can't be removed: the next start sends it again."""
        file = self._files.pop(number, None)
        if file is not None:
            remove(self._path(file))

    def empty(self) -> None:
        """Remove all. StateError when that fails."""
        for number in self.files:
            self.remove(number)

    def _write(self, events: Sequence[Event]) -> None:
        content = msgspec.msgpack.encode(tuple(events))
        while self._files and self._is_full(len(content)):
            self._lose(next(iter(self._files)))
        file = _File(self._next, len(events), len(content))
        try:
            write_whole(self._path(file), content, MODE)
        except StateError:
            # On a full disk the half that could be written would stay.
            _discard(f"{self._folder}/.{file.name}.new")
            raise
        self._next += 1
        self._files[file.number] = file

    def _is_full(self, more_bytes: int) -> bool:
        used = sum(file.size for file in self._files.values())
        return len(self._files) >= MOST_FILES or used + more_bytes > MOST_BYTES

    def _lose(self, number: int) -> None:
        self.lost += self._files[number].events
        with suppress(StateError):
            self.remove(number)

    def _path(self, file: _File) -> str:
        return f"{self._folder}/{file.name}"

    def _look(self) -> list[_File]:
        """What is there, oldest first; what a kill has left half written is discarded."""
        found = []
        try:
            for name in sorted(os.listdir(self._folder)):
                number, _, events = name.removesuffix(SUFFIX).partition(".")
                if name.startswith("."):
                    _discard(f"{self._folder}/{name}")
                elif name.endswith(SUFFIX) and number.isdecimal() and events.isdecimal():
                    size = os.stat(f"{self._folder}/{name}", follow_symlinks=False).st_size
                    found.append(_File(int(number), int(events), size))
        except OSError as error:
            raise StateError(f"{self._folder} can't be read: {error.strerror}") from None
        return found


def _discard(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
