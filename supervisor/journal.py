# SPDX-License-Identifier: Apache-2.0
"""Owns the journal file: appends checksummed records, on disk before `append` returns, and replays them at the start.

Runs in the supervisor alone. It must never let an act go ahead whose record is not on disk, nor guess at damage.
"""

import contextlib
import errno
import fcntl
import os
import stat
import struct
import zlib

import msgspec

from ipc.errors import StateError
from supervisor.records import AnyRecord, State

# File: MAGIC, then records: length of the body, CRC-32 of length and body, body (msgpack).
MAGIC = b"AGSVJNL1"
HEAD = struct.Struct("<II")
MAX_BODY_BYTES = 16 * 1024
MAX_FILE_BYTES = 8 << 20
COMPACT_BYTES = 128 * 1024
# To write a large one anew for less is not worth it.
WORTH_BYTES = 64 * 1024
DAMAGED_KEPT = 8

_decoder = msgspec.msgpack.Decoder(AnyRecord)


class Replayed(msgspec.Struct, frozen=True):
    """What a file's bytes say: the state, how many records, where the last good one ends."""

    state: State
    records: int
    end: int


class Journal:
    """The open journal. `state` is what all records add up to; `notes` tells what was repaired when it was opened."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open or create the file at `path`, whose folder must exist. StateError when it can't be used.

        A torn last record is cut off. Damage before the last record moves the file aside: a new try starts empty."""
        self._begin(path, f"{path}: the journal is closed")
        try:
            self._descriptor = _open_locked(self.path, self._owner)
            self._replay()
        except OSError as error:
            self.close()
            raise StateError(f"{path}: {error.strerror}") from None
        except StateError:
            self.close()
            raise
        self._compact_if_large()

    def _begin(self, path: str | os.PathLike[str], closed: str) -> None:
        """The state before the file is read; `closed` is why nothing can be written while it is not open."""
        self.path = os.fspath(path)
        self.notes: tuple[str, ...] = ()
        self.state = State()
        self._closed = closed
        self._end = 0
        # How large it was after the last compaction: what can't be made smaller is not to be written with each record.
        self._compacted = 0
        self._descriptor = -1
        # Asked now: once this process is confined, the kernel answers it no more.
        self._owner: int = os.geteuid()

    @property
    def size_bytes(self) -> int:
        return self._end

    def append(self, record: AnyRecord) -> None:
        """Write `record` and wait until it is on disk; only then may it be acted on. StateError: it must not be."""
        if self._descriptor < 0:
            raise StateError(self._closed)
        state = record.after(self.state)
        data = _pack(record)
        if self._end + len(data) > MAX_FILE_BYTES and self._end >= self._compacted + WORTH_BYTES:
            self.compact()
        if self._end + len(data) > MAX_FILE_BYTES:
            # A larger file would be taken for a damaged one at the next start, and all that it says be lost.
            raise StateError(f"{self.path} is full: it would be larger than {MAX_FILE_BYTES} bytes")
        try:
            _write_all(self._descriptor, data)
            os.fsync(self._descriptor)
        except OSError as error:
            self._take_back(error)
            raise StateError(f"{self.path}: {error.strerror}") from None
        self.state = state
        self._end += len(data)
        self._compact_if_large()

    def compact(self) -> None:
        """Replace the file by the fewest records that say the same; at every instant one of the two is complete."""
        new = f"{self.path}.new"
        content = MAGIC + b"".join(_pack(record) for record in self.state.records())
        descriptor = -1
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            descriptor = _open_locked(new, self._owner)
            _write_all(descriptor, content)
            os.fsync(descriptor)
            os.replace(new, self.path)
            _sync_folder(self.path)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise StateError(f"{self.path}: {error.strerror}") from None
        os.close(self._descriptor)
        self._descriptor, self._end, self._compacted = descriptor, len(content), len(content)

    def close(self) -> None:
        """Let go of the file; everything in it is on disk already."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _replay(self) -> None:
        content = _read_all(self._descriptor)
        if len(content) > MAX_FILE_BYTES:
            raise self._damaged(f"larger than {MAX_FILE_BYTES} bytes", 0)
        if len(content) < len(MAGIC) and MAGIC.startswith(content):
            # New, or its very first write was torn.
            os.ftruncate(self._descriptor, 0)
            _write_all(self._descriptor, MAGIC)
            self._settle()
            content = MAGIC
        if not content.startswith(MAGIC):
            raise self._damaged("not a journal of this version", 0)
        replayed = replay(content)
        self.state, self._end = replayed.state, replayed.end
        rest = content[replayed.end :]
        if not rest:
            return
        if _holds_record(rest):
            raise self._damaged(f"damaged at byte {replayed.end}", replayed.records)
        os.ftruncate(self._descriptor, replayed.end)
        self._settle()
        self.notes = (f"cut off {len(rest)} bytes of an unfinished record after {replayed.records} records",)

    def _settle(self) -> None:
        os.fsync(self._descriptor)
        _sync_folder(self.path)

    def _damaged(self, what: str, records: int) -> StateError:
        """Move the file aside and return the error that tells all this."""
        aside = _free_name(self.path)
        try:
            os.replace(self.path, aside)
            _sync_folder(self.path)
        except OSError as error:
            return StateError(f"{self.path} is {what}, and can't be moved aside: {error.strerror}")
        return StateError(f"{self.path} is {what}; kept as {aside} ({records} records before the damage are readable)")

    def _take_back(self, error: OSError) -> None:
        """Undo a failed append. After a failed fsync nobody knows what is on disk: then no more is written."""
        try:
            if error.errno == errno.EIO:
                raise error
            os.ftruncate(self._descriptor, self._end)
            os.fsync(self._descriptor)
        except OSError:
            self.close()

    def _compact_if_large(self) -> None:
        # At twice its last size, or when half of the room that was left is taken.
        half = max((self._compacted + MAX_FILE_BYTES) // 2, self._compacted + WORTH_BYTES)
        if self._end > max(COMPACT_BYTES, min(2 * self._compacted, half)):
            # Being large is no harm; the next append tries again.
            with contextlib.suppress(StateError):
                self.compact()


class UnusableJournal(Journal):
    """Stands for a journal that can't be had: it holds nothing, and each append is a StateError. It opens no file."""

    def __init__(self, path: str | os.PathLike[str], why: str) -> None:
        """`why` is the text of those errors."""
        self._begin(path, why)


def replay(content: bytes) -> Replayed:
    """Add up the good records of a journal's bytes, up to the first that is not. Pure."""
    state, offset, count = State(), len(MAGIC), 0
    while (body := _body_at(content, offset)) is not None:
        try:
            state = _decoder.decode(body).after(state)
        except (msgspec.DecodeError, StateError):
            break
        offset += HEAD.size + len(body)
        count += 1
    return Replayed(state, count, offset)


def _body_at(content: bytes, offset: int) -> bytes | None:
    """The body of the record at `offset`, if a whole one with the right checksum stands there."""
    if len(content) - offset < HEAD.size:
        return None
    length, checksum = HEAD.unpack_from(content, offset)
    body = content[offset + HEAD.size : offset + HEAD.size + length]
    if not 0 < length <= MAX_BODY_BYTES or len(body) < length or _checksum(body) != checksum:
        return None
    return body


def _holds_record(rest: bytes) -> bool:
    """True if a good record stands anywhere in `rest`: then what precedes it was not torn off, but damaged."""
    return any(_body_at(rest, offset) is not None for offset in range(len(rest)))


def _pack(record: AnyRecord) -> bytes:
    body = msgspec.msgpack.encode(record)
    try:
        # What can't be read back must not be written: the limits on text hold on reading only.
        _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise StateError(f"{type(record).__name__}: {error}") from None
    if len(body) > MAX_BODY_BYTES:
        raise StateError(f"{type(record).__name__}: {len(body)} bytes; a record has at most {MAX_BODY_BYTES}")
    return HEAD.pack(len(body), _checksum(body)) + body


def _checksum(body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(len(body).to_bytes(4, "little")))


def _open_locked(path: str, owner: int) -> int:
    """The file, 0600 and `owner`'s, locked against a second writer."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != owner:
            raise OSError(errno.EINVAL, "not a regular file of this user")
        if stat.S_IMODE(facts.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another writer may have put a new file here while this one was being opened.
        if not os.path.samestat(facts, os.lstat(path)):
            raise OSError(errno.EAGAIN, "in use by another process")
    except BlockingIOError:
        os.close(descriptor)
        raise OSError(errno.EAGAIN, "in use by another process") from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _read_all(descriptor: int) -> bytes:
    parts: list[bytes] = []
    offset = 0
    while offset <= MAX_FILE_BYTES and (part := os.pread(descriptor, 1 << 20, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(path: str) -> None:
    """Have the folder's entry for `path` on disk."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _free_name(path: str) -> str:
    names = [f"{path}.damaged.{number}" for number in range(1, DAMAGED_KEPT + 1)]
    return next((name for name in names if not os.path.exists(name)), names[-1])
