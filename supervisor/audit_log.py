# SPDX-License-Identifier: Apache-2.0
"""Owns the writing of the audit log: a hash-chained line a record, in files that are bounded in size and number.

Runs in the supervisor alone. It never raises and never stops the agent's work: what can't be written is counted, and
the next record that can be says how much is missing.
"""

import os
import stat
from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from ipc.errors import StateError
from supervisor.audit_log_chain import HEAD_BYTES, HEAD_SUFFIX, Head, head_line, line, rotated_name
from supervisor.audit_log_end import complete_files, find_end
from supervisor.audit_log_entry import MOST_CHARACTERS, Entry
from supervisor.audit_log_mirror import Mirror
from supervisor.clock import Clock, stamp
from supervisor.files import make_folder

MODE = 0o600
# What a power cut may take with it, at most: as much as was recorded in this time.
SYNC_WITHIN_S = 1.0
URGENT_EVENTS = frozenset(
    {"violation", "worker-hung", "worker-refused", "log-damaged", "log-repaired", "records-missing"}
)


class Bounds(msgspec.Struct, frozen=True):
    """A file is complete once it has `file_bytes`; of the complete ones and the last there are `files`."""

    file_bytes: int = 1 << 20
    files: int = 8


class Surroundings(msgspec.Struct, frozen=True):
    """What the audit log has of the process that it is part of. `boot` is the id of this boot.

    `clean` takes secrets out of text; `later` runs an action after so many seconds; `say` is for the log."""

    clock: Clock
    boot: str
    clean: Callable[[str], str] = str
    later: Callable[[float, Callable[[], None]], object] = lambda _, action: action()
    say: Callable[[str, str, str], None] = lambda *_: None
    mirror: Mirror | None = None


class AuditLog:
    """Call it with an entry. `lost` counts those of this process that could not be written."""

    def __init__(self, path: str, surroundings: Surroundings, bounds: Bounds | None = None) -> None:
        """The log at `path`, made with its first record when it is not there."""
        self.lost = 0
        self._path = path
        self._ = surroundings
        self._bounds = bounds or Bounds()
        # Asked now: once this process is confined, the kernel answers it no more.
        self._owner = os.geteuid()
        self._descriptor = self._head = -1
        self._size = self._seq = self._untold = 0
        self._hash = ""
        self._begins = 1
        # What has to be recorded before anything else.
        self._due: list[Entry] = []
        self._too_old: list[tuple[int, str]] = []
        self._sync_is_due = False
        self._in_trouble = False

    @property
    def end(self) -> str:
        """The last record's number and hash, for whoever keeps them elsewhere."""
        return f"{self._seq}:{self._hash}"

    def __call__(self, entry: Entry) -> None:
        """Record `entry`: with the kernel when this returns, on disk within a second, at once if it is urgent."""
        entry = replace(entry, detail=_plain(self._.clean(entry.detail)))
        try:
            self._open()
            if self._size >= self._bounds.file_bytes:
                self._rotate()
            while self._due:
                self._write(self._due[0])
                del self._due[0]
            self._drop()
            if self._untold:
                self._write(Entry("records-lost", count=self._untold))
                self._untold = 0
            self._write(entry)
            self._in_trouble = False
        except (OSError, StateError) as error:
            self._lose(entry, error)
        if _is_urgent(entry):
            self.sync()
        elif not self._sync_is_due:
            self._sync_is_due = True
            self._.later(SYNC_WITHIN_S, self.sync)

    def sync(self) -> None:
        """Have all records on disk. The head file is left to the kernel: it should not get ahead of the records."""
        self._sync_is_due = False
        if self._descriptor >= 0:
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                self._.say("error", "audit", f"{self._path}: records may not be on disk: {error.strerror}")

    def finish(self) -> None:
        """Before the process ends: all is on disk, and with the journal what it still takes."""
        self.sync()
        if self._.mirror is not None:
            self._.mirror.finish()

    def _lose(self, entry: Entry, error: OSError | StateError) -> None:
        if not self._in_trouble:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._.say("error", "audit", f"{self._path} can't be written, records are lost: {why}")
        self._in_trouble = True
        self.lost += 1
        self._untold += 1
        if self._.mirror is not None:
            self._.mirror.show(entry, 0, "", urgent=True)

    def _write(self, entry: Entry) -> None:
        """One line, whole or not at all, and the head after it: so that the log is never behind its head."""
        now = self._.clock
        data, digest = line(entry, self._seq + 1, stamp(now.wall()), now.monotonic(), self._hash)
        if os.write(self._descriptor, data) < len(data):
            self._take_back()
            raise StateError("there is no room for a whole record")
        self._seq, self._hash, self._size = self._seq + 1, digest, self._size + len(data)
        self._tell_head()
        if self._.mirror is not None:
            self._.mirror.show(entry, self._seq, digest, urgent=_is_urgent(entry))

    def _take_back(self) -> None:
        """Cut off a part of a record. Where that fails, the file is opened anew, and repaired then."""
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            os.close(self._descriptor)
            self._descriptor = -1

    def _tell_head(self) -> None:
        # Its block is there already: it is written on a full disk, too. One that lags behind is a weaker witness only.
        with suppress(OSError):
            os.pwrite(self._head, head_line(Head(self._seq, self._hash, self._begins, self._.boot)), 0)

    def _open(self) -> None:
        """Have the files open, and go on where they end."""
        if self._descriptor >= 0:
            return
        make_folder(self._path.rpartition("/")[0], 0o700)
        if self._head < 0:
            self._head = _open_own(f"{self._path}{HEAD_SUFFIX}", 0, self._owner)
        descriptor = _open_own(self._path, os.O_APPEND, self._owner)
        try:
            end = find_end(self._path, descriptor, os.pread(self._head, HEAD_BYTES, 0), self._.boot)
            os.ftruncate(descriptor, end.whole_bytes)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor, self._size = descriptor, end.whole_bytes
        self._seq, self._hash, self._begins = end.seq, end.hash, end.begins
        self._due = list(end.notes)
        for note in end.notes:
            self._.say("warning", "audit", f"{self._path}: {note.event}: {note.detail}")
        if not self._size:
            # Before the first record: so the head has its room, and a log that is cut down to nothing shows.
            self._tell_head()
            self._due.insert(0, Entry("log-rotated", first=self._begins) if end.follows else Entry("log-begun"))

    def _rotate(self) -> None:
        """Complete this file and begin the next, with a record of where the log begins once what is too old is gone."""
        self.sync()
        folder, _, name = self._path.rpartition("/")
        os.rename(self._path, f"{folder}/{rotated_name(name, self._seq)}")
        os.close(self._descriptor)
        self._descriptor, self._size = -1, 0
        self._descriptor = _open_own(self._path, os.O_APPEND, self._owner)
        files = complete_files(self._path)
        self._too_old = files[: max(0, len(files) - self._bounds.files + 1)]
        if self._too_old:
            self._begins = self._too_old[-1][0] + 1
        self._due.insert(0, Entry("log-rotated", first=self._begins))

    def _drop(self) -> None:
        """Remove what is too old; not before a record says so, or it would look cut off."""
        while self._too_old:
            os.unlink(self._too_old[0][1])
            del self._too_old[0]


def _is_urgent(entry: Entry) -> bool:
    return entry.event in URGENT_EVENTS or entry.decision in {"refused", "failed"}


def _open_own(path: str, flags: int, owner: int) -> int:
    """The file, made 0600 when it is not there; OSError for what is no regular file of `owner`."""
    flags |= os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, MODE)
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != owner:
        os.close(descriptor)
        raise OSError(0, f"{path} is no regular file of this user")
    if stat.S_IMODE(facts.st_mode) != MODE:
        os.fchmod(descriptor, MODE)
    return descriptor


def _plain(text: str) -> str:
    """`text` in printable ASCII on one line, of bounded length."""
    return text.encode("unicode_escape").decode("ascii")[:MOST_CHARACTERS]
