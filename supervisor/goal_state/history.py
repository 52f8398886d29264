# SPDX-License-Identifier: Apache-2.0
"""Owns LIB/history: the newest goal states as this VM got them, without their secrets; older ones as ZIP archives.

Runs in the supervisor. Nothing depends on it: a disk that is full costs the record, never the goal state.
"""

import contextlib
import os
import re
import time
from collections.abc import Mapping

import msgspec

from supervisor.clock import Clock
from supervisor.goal_state.zipped import archive

FOLDER = "history"
# wire-protocol.md 4.1.
KEPT = 50
# All archives together: what the host sends, and how often, must not fill the disk.
KEPT_BYTES = 64 << 20
FOLDER_MODE, FILE_MODE = 0o700, 0o600
# What may be in one archive, all together; a status is at most of 640 KiB, a document of some MiB. Whatever else lies
# in such a folder, somebody else has put it there.
MOST_ARCHIVED_BYTES, MOST_ARCHIVED_FILES = 16 << 20, 32
LONGEST_ID = 80
_NAME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)__([^/]{1,200}?)(\.zip)?")
_UNFIT = re.compile(r"[^A-Za-z0-9._]+")


class Entry(msgspec.Struct, frozen=True):
    """One goal state of the past: when it was taken (UTC), its incarnation and ETag as the name has them, and where."""

    taken: str
    ids: str
    path: str
    is_archived: bool


class History:
    """The folder below `lib`. Every method may raise OSError."""

    def __init__(self, lib: str, clock: Clock) -> None:
        self._folder = f"{lib}/{FOLDER}"
        self._clock = clock

    def begin(self, incarnation: str, etag: str) -> str:
        """The path of a new folder."""
        ids = "-".join(_fit(each) for each in (incarnation, etag) if each) or "none"
        when = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(self._clock.wall()))
        path = f"{self._folder}/{when}__{ids}"
        os.makedirs(self._folder, FOLDER_MODE, exist_ok=True)
        os.makedirs(path, FOLDER_MODE, exist_ok=True)
        return path

    def fill(self, path: str, files: Mapping[str, bytes]) -> None:
        """Write `files` to the folder `path`; what the folders before it hold goes into archives."""
        for name, content in files.items():
            put(path, name, content)
        self._archive_all_but(path)
        self._drop_oldest()

    def has(self, etag: str) -> bool:
        """Whether there is an entry of that ETag."""
        return any(entry.ids.endswith(_fit(etag)) for entry in self.entries())

    def is_full(self) -> bool:
        """Whether there is no room for one more before the next goal state makes archives of folders."""
        return len(self._listed()) >= 2 * KEPT

    def entries(self) -> tuple[Entry, ...]:
        """All there are, the newest first."""
        found = ((entry, _NAME.fullmatch(entry.name)) for entry in self._listed())
        entries = [Entry(match[1], match[2], entry.path, bool(match[3])) for entry, match in found if match is not None]
        return tuple(sorted(entries, key=lambda entry: (entry.taken, entry.ids), reverse=True))

    def _listed(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._folder) as listing:
                return list(listing)
        except FileNotFoundError:
            return []

    def _archive_all_but(self, newest: str) -> None:
        for entry in self._listed():
            if entry.path != newest and entry.is_dir(follow_symlinks=False) and _NAME.fullmatch(entry.name):
                with contextlib.suppress(PermissionError):  # not ours: it must not keep ours from being archived
                    self._archive(entry.path)
            elif entry.name.endswith(".zip.tmp"):
                # Of one that was cut short; its folder is still there.
                os.unlink(entry.path)

    def _archive(self, path: str) -> None:
        """`path` becomes PATH.zip: at every instant one of the two is complete."""
        with os.scandir(path) as listing:
            names = sorted(each.name for each in listing if each.is_file(follow_symlinks=False))
        # With an archive there, the folder is what a kill has left of it.
        if not os.path.lexists(f"{path}.zip"):
            content = archive(_content(path, names), FILE_MODE, os.stat(path).st_mtime)
            folder, _, name = f"{path}.zip.tmp".rpartition("/")
            put(folder, name, content)
            os.rename(f"{path}.zip.tmp", f"{path}.zip")
        for each in names:
            os.unlink(f"{path}/{each}")
        with contextlib.suppress(OSError):  # of what somebody else has put there
            os.rmdir(path)

    def _drop_oldest(self) -> None:
        left_bytes = KEPT_BYTES
        for number, entry in enumerate(self.entries()):
            left_bytes -= os.lstat(entry.path).st_size if entry.is_archived else 0
            if entry.is_archived and (number >= KEPT or left_bytes < 0):
                os.unlink(entry.path)


def put(folder: str, name: str, content: bytes) -> None:
    """Write one file of a folder of the history, in the place of one of that name: never into it, as it may be a pipe
    that nobody reads, or another file's second name."""
    path = f"{folder}/{name}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def _content(folder: str, names: list[str]) -> dict[str, bytes]:
    """What the files hold, by their names, within the limits of an archive."""
    found: dict[str, bytes] = {}
    left = MOST_ARCHIVED_BYTES
    for name in names[:MOST_ARCHIVED_FILES]:
        found[name] = _read(f"{folder}/{name}", left)
        left -= len(found[name])
    return found


def _read(path: str, most_bytes: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = min(os.fstat(descriptor).st_size, most_bytes)
        return os.pread(descriptor, size, 0)
    finally:
        os.close(descriptor)


def _fit(text: str) -> str:
    """`text` of the host's as part of a file's name."""
    return _UNFIT.sub("_", text)[:LONGEST_ID].strip("._") or "_"
