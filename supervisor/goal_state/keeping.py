# SPDX-License-Identifier: Apache-2.0
"""Owns what of a goal state is left on disk for others: SharedConfig.xml and its like, and the history.

Runs in the supervisor. A disk that is full costs these, never the goal state; it is said.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import msgspec

from ipc.errors import StateError
from supervisor.clock import Clock
from supervisor.files import write_whole
from supervisor.goal_state.complaints import Complaints
from supervisor.goal_state.documents import Fetched
from supervisor.goal_state.history import Entry, History, put

SHARED_CONFIG, PLACEHOLDER = "SharedConfig.xml", "GoalState.1.xml"
# As in a folder that is root's alone.
MODE = 0o600
# For tools that look whether any GoalState.*.xml is there.
PLACEHOLDER_CONTENT = b"<!-- The goal states of this VM are in the folder history. --><GoalState />\n"


class Keeping:
    """The files in the folder `lib`. `folder` is the current goal state's in the history, empty while there is none."""

    def __init__(self, lib: str, clock: Clock, say: Callable[[str, str, str], None]) -> None:
        self.folder = ""
        self._lib = lib
        self._history = History(lib, clock)
        self._say = say
        self._complaints = Complaints(clock)
        # Which goal state's folder was begun and is not filled yet.
        self._begun = ("", "")

    def begin(self, incarnation: str, etag: str) -> None:
        """Have a folder for a goal state that is about to be put in force: its status may come before its documents."""
        if self._begun != (incarnation, etag) or not self.folder:
            self._begun, self.folder = (incarnation, etag), ""
            with suppress(OSError):  # said by `keep`
                self.folder = self._history.begin(incarnation, etag)

    def keep(self, fetched: Fetched | None, more: Mapping[str, bytes]) -> None:
        """Write down the goal state that was begun; `more` are files of the history beside those of `fetched`."""
        ids, self._begun = self._begun, ("", "")
        self._try(lambda: self._write(fetched, more, *ids))

    def note_unreadable(self, etag: str, problem: str) -> None:
        """Why vmSettings can't be read, once for each ETag. They themselves may hold secrets, and stay away."""

        def write() -> None:
            # A host that sends a new one with each poll would fill the disk.
            if not self._history.is_full() and not self._history.has(etag):
                put(self._history.begin("", etag), "VmSettings.problem.txt", f"{problem}\n".encode())

        self._try(write)

    def keep_status(self, content: bytes) -> None:
        """The newest status for the host, beside the newest goal state. OSError."""
        if self.folder:
            put(self.folder, "waagent_status.json", content)

    def keep_beside(self, name: str, content: bytes) -> None:
        """One more file of the newest goal state's."""
        if self.folder:
            self._try(lambda: put(self.folder, name, content))

    def keep_more(self, name: str, content: bytes) -> None:
        """One more file beside the newest goal state."""
        if self.folder:
            self._try(lambda: put(self.folder, name, content))

    def past(self) -> tuple[Entry, ...]:
        """The history, the newest first; empty where it can't be read."""
        try:
            return self._history.entries()
        except OSError:
            return ()

    def _write(self, fetched: Fetched | None, more: Mapping[str, bytes], incarnation: str, etag: str) -> None:
        if fetched is not None:
            write_whole(f"{self._lib}/{SHARED_CONFIG}", fetched.shared_config, MODE)
            write_whole(f"{self._lib}/{PLACEHOLDER}", PLACEHOLDER_CONTENT, MODE)
        files = fetched.files if fetched is not None else {}
        self.folder = self.folder or self._history.begin(incarnation, etag)
        self._history.fill(self.folder, {**files, **more})

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, StateError) as error:
            if self._complaints.note(str(error)):
                self._say("warning", "goal state", f"not written down for others: {error}; it is in force all the same")
        else:
            self._complaints.end()


def certificates_summary(known: Iterable[tuple[str, bool]]) -> bytes:
    """Thumbprints, and whether each certificate's key is here."""
    return msgspec.json.encode([{"thumbprint": name, "hasPrivateKey": has} for name, has in known])
