# SPDX-License-Identifier: Apache-2.0
"""`agent-supervisor log verify` finds every edit, cut and gap; whoever writes all anew is found by copies elsewhere."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ipc.digest import sha256_hex
from supervisor.audit_log_chain import Head, head_line, line, read, true_hash
from supervisor.audit_log_entry import Entry
from supervisor.audit_log_mirror import datagram
from tests.fabric.lab import PROJECT
from tests.unit.audit_log.written import BOOT, SMALL, files_of, filled, found, verdict

RECORDS = 40
Lines = list[bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log in one file."""
    filled(tmp_path / "audit.log", RECORDS - 1)
    return tmp_path / "audit.log"


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A log of several files, of which the first are gone."""
    filled(tmp_path / "audit.log", 60, SMALL)
    assert len(files_of(tmp_path / "audit.log")) == SMALL.files
    return tmp_path / "audit.log"


def changed(path: Path, change: Callable[[Lines], Lines]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def anew(lines: Lines) -> Lines:
    """The same, with numbers, predecessors and hashes that fit."""
    made: Lines = []
    before = ""
    for text in lines:
        record = read(text)
        assert record is not None
        entry = msgspec.convert({name: getattr(record, name) for name in Entry.__struct_fields__}, Entry)
        seq = read(made[-1]).seq + 1 if made else record.seq  # type: ignore[union-attr]
        data, before = line(entry, seq, record.time, record.uptime, before or record.prev)
        made.append(data)
    return made


def test_the_untouched_one_is_good(path: Path, long: Path) -> None:
    assert found(path) == found(long) == []


def test_any_byte_that_is_edited_is_found(path: Path) -> None:
    whole = path.read_bytes()
    draw = random.Random(5)
    places = {*range(0, 500, 7), *range(len(whole) - 80, len(whole), 2), *draw.sample(range(len(whole)), 60)}
    for place in sorted(places):
        edited = bytearray(whole)
        edited[place] ^= draw.choice((1, 2, 32))
        path.write_bytes(edited)
        wrongs = found(path)
        assert wrongs, f"byte {place}, {whole[place]:#x} made {edited[place]:#x}"
        assert abs(wrongs[0][1] - (whole[:place].count(b"\n") + 1)) <= 1
        assert len(wrongs) <= 3


def test_where_and_what_is_told(path: Path) -> None:
    changed(path, lambda lines: [text.replace(b'"pid":1010,', b'"pid":1011,') for text in lines])
    status, told = verdict(path)
    (finding,) = told["findings"]
    assert (status, finding["wrong"], finding["line"], finding["seq"]) == (1, "edited", 12, 12)
    assert finding["file"] == str(path)
    assert "is not as it was written" in finding["text"]


CHANGES: dict[str, tuple[Callable[[Lines], Lines], str, int]] = {
    "one removed": (lambda them: [*them[:9], *them[10:]], "gap", 11),
    "many removed": (lambda them: [*them[:9], *them[20:]], "gap", 21),
    "two swapped": (lambda them: [*them[:9], them[10], them[9], *them[11:]], "reordered", 11),
    "one moved back": (lambda them: [*them[:5], them[20], *them[5:20], *them[21:]], "reordered", 21),
    "one twice": (lambda them: [*them[:10], them[9], *them[10:]], "duplicated", 10),
    "all twice": (lambda them: [*them, *them], "duplicated", 1),
    "a line of something else": (lambda them: [*them[:9], b"Nov 22 vm sshd: hello\n", *them[9:]], "foreign", 0),
    "an empty line": (lambda them: [*them[:9], b"\n", *them[9:]], "foreign", 0),
    "the head cut off": (lambda them: them[5:], "cut", 6),
    "the end cut off": (lambda them: them[:-1], "cut", RECORDS),
    "the end cut within a record": (lambda them: [*them[:-2], them[-2][:50]], "cut", RECORDS),
    "nothing left": (lambda _: [], "cut", RECORDS),
    "one made anew": (lambda them: [*them[:9], *anew(them[9:10]), *them[10:]][:9] + anew([remade(them[9])]) + them[10:],
                      "foreign", 11),
    "one inserted, all after it anew": (lambda them: anew([*them[:9], them[8], *them[9:]]), "foreign", RECORDS),
    "all anew without one": (lambda them: anew([*them[:20], *them[21:]]), "cut", RECORDS),
}  # fmt: skip


def remade(text: bytes) -> bytes:
    """A record with another content and a hash that fits it."""
    body = text[: text.rindex(b',"hash":')].replace(b'"detail":"ended"', b'"detail":"never"')
    return b'%s,"hash":"%s"}\n' % (body, sha256_hex([body]).encode())


@pytest.mark.parametrize("name", CHANGES)
def test_any_change_of_lines_is_found(name: str, path: Path) -> None:
    change, wrong, seq = CHANGES[name]
    changed(path, change)
    assert found(path)[0] == (wrong, seq)


@pytest.mark.parametrize("tail", [b"A" * 100_000, b"\x00\xff" * 150, b'{"seq":' + b"9" * 5000])
def test_an_end_that_no_record_has_is_found(tail: bytes, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert found(path)
    # A full disk or a power cut leaves that.
    path.write_bytes(whole + whole[:40])
    assert found(path) == []


@pytest.mark.parametrize("place", range(SMALL.files))
def test_a_file_that_is_gone_is_found(place: int, long: Path) -> None:
    files_of(long)[place].unlink()
    wrongs = {wrong for wrong, _ in found(long)}
    assert wrongs == ({"gap"} if 0 < place < SMALL.files - 1 else {"cut"})


def test_at_the_boundary_of_two_files_nothing_is_lost_unseen(long: Path) -> None:
    first, second, *_ = files_of(long)
    lines = first.read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join(lines[:-1]))
    assert [wrong for wrong, _ in found(long)] == ["gap"]
    first.write_bytes(b"".join(lines) + second.read_bytes().splitlines(keepends=True)[0])
    assert [wrong for wrong, _ in found(long)] == ["duplicated"]


def test_without_the_head_file_the_end_is_in_doubt(path: Path) -> None:
    path.with_name("audit.log.head").unlink()
    assert found(path) == [("cut", 0)]


# --- who writes the head file as well ----------------------------------------------------------------------------


def all_anew(path: Path, change: Callable[[Lines], Lines]) -> None:
    """By somebody who knows how: chain and head file fit."""
    changed(path, lambda lines: anew(change(lines)))
    last = read(path.read_bytes().splitlines(keepends=True)[-1])
    assert last is not None
    path.with_name("audit.log.head").write_bytes(head_line(Head(last.seq, last.hash, 1, BOOT)))
    assert found(path) == []


def test_who_writes_all_anew_is_found_by_a_noted_hash(path: Path) -> None:
    before = verdict(path)[1]
    anchor = f"{before['last']}:{before['last_hash']}"
    all_anew(path, lambda lines: [*lines[:20], remade(lines[20]), *lines[21:]])
    assert found(path, "--anchor", anchor) == [("foreign", RECORDS)]
    all_anew(path, lambda lines: lines[:30])
    assert found(path, "--anchor", anchor) == [("cut", RECORDS)]


def exported(path: Path, uid: str = "0") -> str:
    """What journalctl would print of the copies that the journal has."""
    entries = []
    for text in path.read_bytes().splitlines(keepends=True):
        record = read(text)
        assert record is not None
        sent = datagram(record, record.seq, record.hash, urgent=False).decode()
        entries.append(json.dumps(dict(each.split("=", 1) for each in sent.splitlines()) | {"_UID": uid}))
    return "\n".join([*entries, json.dumps({"MESSAGE": "of another program", "_UID": "0"}), ""])


def test_who_writes_all_anew_is_found_by_the_journals_copies(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "exported"
    copy.write_text(exported(path))
    assert verdict(path, "--journal", str(copy))[1]["anchors"] == RECORDS
    all_anew(path, lambda lines: [*lines[:20], remade(lines[20]), *lines[21:]])
    assert found(path, "--journal", str(copy)) == [("foreign", seq) for seq in range(21, RECORDS + 1)]


def test_copies_of_those_who_are_not_root_count_for_nothing(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "exported"
    copy.write_text(exported(path, uid="1000").replace('"AGENT_SUPERVISOR_HASH": "', '"AGENT_SUPERVISOR_HASH": "f'))
    status, told = verdict(path, "--journal", str(copy))
    assert (status, told["anchors"]) == (0, 0)


# --- the check itself --------------------------------------------------------------------------------------------

CHECK = """
import sys
from tests.jail import mutants
mutants.install([sys.argv[2:]])
from supervisor.cli.main import main
sys.exit(main(["log", "verify", "--file", sys.argv[1]]))
"""
WITHOUT: dict[str, tuple[str, str, Callable[[Lines], Lines]]] = {
    "own hash": (
        "elif record.hash != each.true_hash:",
        "elif False:",
        lambda lines: [text.replace(b'"pid":1010,', b'"pid":1011,') for text in lines],
    ),
    "hash of the one before": (
        "elif self._before and record.prev not in self._before:",
        "elif False:",
        lambda lines: [*lines[:9], remade(lines[9]), *lines[10:]],
    ),
    "sequence": ("if record.seq > self._next:", "if False:", lambda lines: [*lines[:9], *bridged(lines)]),
    "head": ("elif head.seq > last:", "elif False:", lambda lines: lines[:-3]),
}


def bridged(lines: Lines) -> Lines:
    """From record 11 on, so made that they go on from record 9 by their hashes."""
    before = read(lines[8])
    record = read(lines[10])
    assert before is not None
    assert record is not None
    entry = msgspec.convert({name: getattr(record, name) for name in Entry.__struct_fields__}, Entry)
    data, digest = line(entry, record.seq, record.time, record.uptime, before.hash)
    rest = [data]
    for text in lines[11:]:
        later = read(text)
        assert later is not None
        entry = msgspec.convert({name: getattr(later, name) for name in Entry.__struct_fields__}, Entry)
        data, digest = line(entry, later.seq, later.time, later.uptime, digest)
        rest.append(data)
    return rest


@pytest.mark.parametrize("check", WITHOUT)
def test_without_one_of_its_checks_something_goes_unseen(check: str, path: Path) -> None:
    old, new, change = WITHOUT[check]
    changed(path, change)
    if check == "sequence":
        last = path.read_bytes().splitlines(keepends=True)[-1]
        path.with_name("audit.log.head").write_bytes(head_line(Head(RECORDS, true_hash(last), 1, BOOT)))
    assert found(path) != []
    command = [sys.executable, "-c", CHECK, str(path), "supervisor.audit_log_verify", old, new]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
