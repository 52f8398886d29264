# SPDX-License-Identifier: Apache-2.0
"""Owns the judgement on an audit log: is every record as it was written, in its place, and is none missing.

Runs in the process of `agent-supervisor log verify`. Of the writer's code it has the form of lines alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from supervisor.audit_log_chain import NOTHING, Head, Record, is_begun, read, true_hash

Wrong = Literal["edited", "cut", "gap", "reordered", "duplicated", "foreign", "damaged"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: in which `file` and line, with which record (0: none in particular)."""

    wrong: Wrong
    file: str
    line: int
    seq: int
    text: str


class File(msgspec.Struct, frozen=True):
    """One file of a log, as it was read."""

    name: str
    content: bytes


class Verdict(msgspec.Struct, frozen=True):
    """What came of it. `notes` are no fault of the log's: records that were never written, a record cut short."""

    records: int
    first: int
    last: int
    last_hash: str
    anchors: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        return not self.findings


class _Line(msgspec.Struct, frozen=True):
    file: str
    number: int
    record: Record | None
    true_hash: str


def verify(files: Sequence[File], head: Head | None, anchors: Mapping[int, frozenset[str]]) -> Verdict:
    """Judge the log in `files`, oldest first. `anchors` are hashes of records by number, kept elsewhere."""
    lines, notes = _lines(files)
    chain = _Chain({each.record.seq for each in lines if each.record is not None})
    for each in lines:
        chain.take(each)
    findings = [*_beginning(lines, files), *chain.findings, *_ending(chain, files, head)]
    findings += _against(chain.hashes, anchors, files[-1].name if files else "")
    seqs = list(chain.hashes)
    last = seqs[-1] if seqs else 0
    return Verdict(
        len(lines),
        seqs[0] if seqs else 0,
        last,
        chain.hashes.get(last, ""),
        sum(map(len, anchors.values())),
        tuple(findings),
        (*notes, *chain.notes),
    )


def _lines(files: Iterable[File]) -> tuple[list[_Line], list[str]]:
    """Every line; and what is no line yet, or was one only in part."""
    lines: list[_Line] = []
    notes: list[str] = []
    files = list(files)
    for file in files:
        *whole, rest = file.content.split(b"\n")
        for number, text in enumerate(whole, 1):
            lines.append(_Line(file.name, number, read(text + b"\n"), true_hash(text + b"\n")))
        if rest and file is files[-1] and is_begun(rest):
            notes.append(f"{file.name} ends with {len(rest)} bytes of a record; the agent's next start tells of them")
        elif rest:
            lines.append(_Line(file.name, len(whole) + 1, None, ""))
    return lines, notes


class _Chain:
    """Goes along the lines; `hashes` are those of the records seen, by their numbers."""

    def __init__(self, present: set[int]) -> None:
        self.hashes: dict[int, str] = {}
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self._present = present
        self._next = 0
        self._before: set[str] = set()

    def take(self, each: _Line) -> None:
        """The next line."""
        record = each.record
        if record is None:
            self._take_unreadable(each)
        elif record.hash != each.true_hash:
            # Its number may be what was edited: it counts as the one that is due.
            self._find("edited", each, self._next, "is not as it was written: its hash is that of other bytes")
            self._go_on(self._next, {record.hash, each.true_hash})
        elif not self._next or self._follows(each, record):
            self.hashes[record.seq] = record.hash
            self._go_on(record.seq, {record.hash})
            self._hear(each, record)

    def _take_unreadable(self, each: _Line) -> None:
        """A line that is no record: what became of the one that is due, or one that never was here."""
        if self._next in self._present:
            self._find("foreign", each, 0, "is no record of an audit log")
        elif not self._next:
            self._find("edited", each, 0, "is no record of an audit log, where it has to begin")
        else:
            self._find("edited", each, self._next, "is no record any more")
            self._go_on(self._next, set())

    def _go_on(self, seq: int, before: set[str]) -> None:
        """`seq` (0: not known) is behind us; the next one names one of `before`, or what it likes if there is none."""
        self._next, self._before = seq + 1 if seq else 0, before

    def _follows(self, each: _Line, record: Record) -> bool:
        """Whether the chain goes on with `record`; a finding if it does not do so in order."""
        if record.seq < self._next:
            is_known = self.hashes.get(record.seq) == record.hash
            wrong: Wrong = "duplicated" if is_known else "reordered"
            self._find(wrong, each, record.seq, f"stands where record {self._next} was due")
            return False
        if (
            record.event == "records-missing"
            and record.seq == record.last + 1
            and (not self._before or record.prev in self._before)
        ):
            return True  # the agent itself found them missing: _hear
        if record.seq > self._next:
            missing = range(self._next, record.seq)
            elsewhere = not self._present.isdisjoint(missing)
            one = len(missing) == 1
            named = f"record {missing[0]} was" if one else f"records {missing[0]} to {missing[-1]} were"
            text = f"stands before its turn: {named} due" if elsewhere else f"comes after a gap: {named} cut out"
            self._find("reordered" if elsewhere else "gap", each, record.seq, text)
        elif self._before and record.prev not in self._before:
            self._find("foreign", each, record.seq, f"does not go on from record {self._next - 1} as that is here")
        return True

    def _hear(self, each: _Line, record: Record) -> None:
        """What the writer itself says is wrong."""
        if record.event == "records-missing":
            said = f"records {record.first} to {record.last} were missing when the agent started: {record.detail}"
            self._find("cut", each, record.seq, f"says that {said}")
        elif record.event == "log-damaged":
            self._find("damaged", each, record.seq, f"says what the agent found at its start: {record.detail}")
        elif record.event == "records-lost":
            self.notes.append(f"before record {record.seq} ({record.time}) {record.count} records could not be written")
        elif record.event == "log-repaired":
            self.notes.append(f"before record {record.seq} ({record.time}) {record.count} bytes of one were cut off")

    def _find(self, wrong: Wrong, each: _Line, seq: int, text: str) -> None:
        self.findings.append(Finding(wrong, each.file, each.number, seq, text))


def _beginning(lines: Sequence[_Line], files: Sequence[File]) -> Iterable[Finding]:
    """Whether the log begins where it has to: with record 1, or where the last rotation says."""
    records = [each.record for each in lines if each.record is not None]
    begins = next((one.first for one in reversed(records) if one.event == "log-rotated"), 1)
    first = lines[0].record if lines else None
    if first is None or first.hash != lines[0].true_hash:
        return
    if first.seq > begins:
        text = f"is the first one here, but the log begins with record {begins}: what precedes it was cut off"
        yield Finding("cut", files[0].name, 1, first.seq, text)
    elif first.seq == 1 and first.prev != NOTHING:
        yield Finding("foreign", files[0].name, 1, 1, "is the first record, and names one before it")


def _ending(chain: _Chain, files: Sequence[File], head: Head | None) -> Iterable[Finding]:
    """Whether the log ends where the head file says, or later."""
    name = files[-1].name if files else ""
    last = max(chain.hashes, default=0)
    if head is None:
        yield Finding("cut", name, 0, 0, "the head file is missing or is none: a cut-off end can't be seen")
    elif head.seq > last:
        text = f"the log ends with record {last}, but record {head.seq} was written: what follows was cut off"
        yield Finding("cut", name, 0, head.seq, text)
    elif head.seq and chain.hashes.get(head.seq, head.hash) != head.hash:
        yield Finding(
            "foreign", name, 0, head.seq, "is not the record that was written: the head file has another hash"
        )


def _against(hashes: Mapping[int, str], anchors: Mapping[int, frozenset[str]], name: str) -> Iterable[Finding]:
    """What copies kept elsewhere say."""
    last = max(hashes, default=0)
    for seq, known in sorted(anchors.items()):
        if seq in hashes and hashes[seq] not in known:
            yield Finding(
                "foreign", name, 0, seq, "is not the record that was written: a copy elsewhere has another hash"
            )
    beyond = [seq for seq in anchors if seq > last]
    if beyond:
        text = (
            f"the log ends with record {last}, but a copy elsewhere has record {max(beyond)}: what follows was cut off"
        )
        yield Finding("cut", name, 0, max(beyond), text)
