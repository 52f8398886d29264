# SPDX-License-Identifier: Apache-2.0
"""Owns fast_track.json in the folder that outsiders know: when the last goal state by FastTrack was created.

Runs in the supervisor. waagent writes and reads the same file: a VM that changes agents keeps what it says.
"""

import re

import msgspec

from supervisor.clock import Clock, stamp
from supervisor.files import read_text, remove, write_whole

FILE = "fast_track.json"
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z?")


class _Content(msgspec.Struct):
    timestamp: str


class FastTrack:
    """The file in the folder `lib`. `created` is what it says, in the form of every timestamp of a goal state; empty
    where there is none."""

    def __init__(self, lib: str, clock: Clock) -> None:
        self._path = f"{lib}/{FILE}"
        self._clock = clock
        self.created = self._read()

    def note(self, created: str) -> None:
        """A goal state by FastTrack, of that time, is in force. StateError when that can't be written down."""
        if created != self.created:
            write_whole(self._path, msgspec.json.encode(_Content(created)), 0o600)
            self.created = created

    def clear(self) -> None:
        """The HostGAPlugin says that the WireServer's is the one that counts. StateError when the file stays."""
        if self.created:
            remove(self._path)
            self.created = ""

    def _read(self) -> str:
        text = read_text(self._path)
        if text is None:
            return ""
        try:
            written = msgspec.json.decode(text, type=_Content).timestamp
        except msgspec.DecodeError:
            written = ""
        if not _TIMESTAMP.fullmatch(written):
            # It was there, nobody knows from when: nothing that is older than now is carried out.
            return _full(stamp(self._clock.wall()))
        return _full(written)


def _full(timestamp: str) -> str:
    """With six digits behind the point and a Z."""
    whole, _, fraction = timestamp.rstrip("Z").partition(".")
    return f"{whole}.{fraction:0<6}Z"
