# SPDX-License-Identifier: Apache-2.0
"""Owns finding out where an audit log ends, and what is not as its last writer left it. It reads, and changes nothing.

Runs in the supervisor, when it begins to write. It never guesses: what it can't tell, the next record says.
"""

import os
from collections.abc import Iterator

import msgspec

from supervisor.audit_log_chain import LINE_BYTES, NOTHING, Head, last_of, read, read_head, true_hash
from supervisor.audit_log_entry import MOST_CHARACTERS, Entry


class End(msgspec.Struct, frozen=True):
    """The log goes on after record `seq` with `hash`. `whole_bytes` of the last file are whole lines.

    `follows`: whether there is an earlier file, and none after it yet. `notes` are what has to be recorded first."""

    seq: int = 0
    hash: str = NOTHING
    begins: int = 1
    whole_bytes: int = 0
    follows: bool = False
    notes: tuple[Entry, ...] = ()


def complete_files(path: str) -> list[tuple[int, str]]:
    """The complete files of the log at `path`, oldest first: (last record, path)."""
    folder, _, name = path.rpartition("/")
    found = ((last_of(each, name), f"{folder}/{each}") for each in os.listdir(folder))
    return sorted((last, each) for last, each in found if last is not None)


def find_end(path: str, content: int, head: bytes, boot: str) -> End:
    """Of the log at `path`, of which the descriptor `content` is the last file and `head` what the head file says.

    `boot` is the id of this boot. OSError when something can't be read."""
    known = read_head(head)
    tail, size = _tail(content)
    whole, _, torn = tail.rpartition(b"\n")
    earlier = complete_files(path) if not whole else []
    if earlier:
        with open(earlier[-1][1], "rb") as file:
            whole = _tail(file.fileno())[0].rstrip(b"\n")
    last = whole.rpartition(b"\n")[2] + b"\n" if whole else b""
    seq, digest, is_right = _where(last, earlier[-1][0] if earlier else 0)
    notes = [] if is_right else [Entry("log-damaged", detail="its last record is not as it was written")]
    notes += _compared(seq, digest, known, boot, is_new=not whole and not torn)
    if torn:
        text = torn.decode("utf-8", "replace").strip("\0")[:MOST_CHARACTERS]
        notes.append(Entry("log-repaired", count=len(torn), detail=f"the beginning of a record was cut off: {text}"))
    if known is not None and known.seq > seq:
        seq = known.seq
    begins = 1 if known is None else known.begins
    return End(seq, digest, begins, size - len(torn), bool(earlier), tuple(notes))


def _where(last: bytes, at_least: int) -> tuple[int, str, bool]:
    """Number and hash of the last line, and whether it is as it was written; `at_least` is its number by its file."""
    if not last:
        return at_least, NOTHING, not at_least
    record = read(last)
    if record is None:
        return at_least, NOTHING, False
    return record.seq, record.hash, record.hash == true_hash(last)


def _compared(seq: int, digest: str, head: Head | None, boot: str, *, is_new: bool) -> Iterator[Entry]:
    """What the head file has to say to a log that ends with record `seq` and its `digest`."""
    if head is None:
        if not is_new:
            yield Entry("log-damaged", detail="the file that says which record is the last is not there, or is none")
    elif head.seq > seq:
        when = "in this very boot" if head.boot == boot else "before this boot, where a power cut may lose a second"
        yield Entry("records-missing", first=seq + 1, last=head.seq, detail=f"they were there {when}")
    elif head.seq == seq and head.hash != digest:
        yield Entry("log-damaged", first=seq, last=seq, detail=f"record {seq} is another one than was written")


def _tail(descriptor: int) -> tuple[bytes, int]:
    """The end of a file, more than one line of it, and its size; all of it where no line ends there."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, 2 * LINE_BYTES, max(0, size - 2 * LINE_BYTES))
    if b"\n" not in tail and len(tail) < size:
        tail = os.pread(descriptor, size, 0)
    return tail, size
