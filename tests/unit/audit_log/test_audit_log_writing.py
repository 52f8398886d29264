# SPDX-License-Identifier: Apache-2.0
"""The writer: whole lines that go on from one another, whatever a crash, a full disk or a hand left of the files."""

import json
import random
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipc.messages import PlaceKeys, SetPassword
from ipc.secret import Secret
from supervisor.audit_log import Bounds
from supervisor.audit_log_chain import LINE_BYTES, Record, read
from supervisor.audit_log_entry import Entry, summary
from supervisor.redaction import Redactor
from tests.fabric.lab import PROJECT
from tests.fabric.waiting import until
from tests.unit.audit_log.written import BOOT, NEXT_BOOT, SMALL, files_of, filled, found, verdict, writer

EXIT = Entry("worker-exit", worker="parser.0", kind="parser", pid=7, detail="ended with 0")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "audit.log"


def records(path: Path) -> list[Record]:
    lines = b"".join(file.read_bytes() for file in files_of(path)).splitlines(keepends=True)
    return [record for line in lines if (record := read(line)) is not None]


def events(path: Path) -> list[str]:
    return [record.event for record in records(path)]


def test_a_record_is_one_line_that_any_tool_reads(path: Path) -> None:
    writer(path)(EXIT)
    lines = path.read_text("ascii").splitlines()
    told = [json.loads(line) for line in lines]
    assert [one["event"] for one in told] == ["log-begun", "worker-exit"]
    assert told[1].items() >= {"seq": 2, "worker": "parser.0", "pid": 7, "prev": told[0]["hash"]}.items()
    assert told[1]["time"] == "1970-01-01T00:16:40.000Z"
    # The rule that the documents give to those who check it with other tools.
    body = lines[1].rpartition(',"hash":')[0]
    assert (
        told[1]["hash"]
        == subprocess.run(["sha256sum"], input=body.encode(), capture_output=True, check=True)
        .stdout.decode()
        .split()[0]
    )


def test_the_files_are_roots_alone(path: Path) -> None:
    writer(path)(EXIT)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in (path.parent, *path.parent.iterdir())}
    assert modes == {"state": 0o700, "audit.log": 0o600, "audit.log.head": 0o600}


def test_the_next_writer_goes_on_where_the_last_one_was(path: Path) -> None:
    filled(path, 3)
    filled(path, 3)
    assert [record.seq for record in records(path)] == list(range(1, 8))
    assert events(path).count("log-begun") == 1
    assert found(path) == []


def test_text_of_others_stays_on_its_line_and_within_bounds(path: Path) -> None:
    audit = writer(path)
    audit(Entry("violation", detail='x"\n{"seq":3}\x1b[2J\0é' + "y" * 100_000))
    audit(EXIT)
    assert max(map(len, path.read_bytes().splitlines(keepends=True))) < LINE_BYTES
    assert [record.seq for record in records(path)] == [1, 2, 3]
    assert path.read_bytes().isascii()
    assert found(path) == []


def test_no_secret_is_told(path: Path) -> None:
    redactor = Redactor()
    redactor.register("Correct-Horse")
    messages = (
        SetPassword("user", Secret("$6$salt$hash")),
        PlaceKeys("user", "/home/Correct-Horse", ".ssh/authorized_keys", ("ssh-ed25519 AAAA",)),
    )
    audit = writer(path, clean=redactor.clean)
    for message in messages:
        audit(Entry("request", detail=summary(message)))
    assert [record.detail for record in records(path)[1:]] == [
        "user_name: 'user', password_hash: <secret>",
        "user_name: 'user', home: '/home/[redacted]', path: '.ssh/authorized_keys', keys: [1]",
    ]


def test_it_is_bounded_and_says_what_it_dropped(path: Path) -> None:
    for count in (5, 60, 200):
        filled(path, count, SMALL)
        files = files_of(path)
        assert len(files) <= SMALL.files
        assert all(file.stat().st_size < SMALL.file_bytes + LINE_BYTES for file in files)
        assert found(path) == []
    first = records(path)[0]
    assert first.seq > 1
    assert [record.first for record in records(path) if record.event == "log-rotated"][-1] == first.seq


# --- what a death leaves ------------------------------------------------------------------------------------------


def test_a_record_that_was_cut_short_is_told_and_the_chain_goes_on(path: Path) -> None:
    filled(path, 3)
    head = path.with_name("audit.log.head")
    whole, known = path.read_bytes(), head.read_bytes()
    for cut in range(1, 250, 17):
        path.write_bytes(whole + whole.splitlines(keepends=True)[-1][:cut])
        head.write_bytes(known)
        assert found(path) == []
        writer(path)(EXIT)
        repaired = next(record for record in records(path) if record.event == "log-repaired")
        assert repaired.count == cut
        status, told = verdict(path)
        assert (status, len(told["notes"])) == (0, 1), told


def test_what_a_file_system_put_behind_the_last_record_is_cut_off(path: Path) -> None:
    filled(path, 3)
    path.write_bytes(path.read_bytes() + bytes(100_000))
    writer(path)(EXIT)
    assert [(one.event, one.count) for one in records(path)[-2:]] == [("log-repaired", 100_000), ("worker-exit", 0)]
    assert found(path) == []


@pytest.mark.parametrize("killed_after", ["its new name", "the new file"])
def test_a_death_while_files_change_loses_nothing(path: Path, killed_after: str) -> None:
    filled(path, 60, SMALL)
    path.rename(f"{path}-{records(path)[-1].seq:012d}")
    if killed_after == "the new file":
        path.touch(0o600)
    assert found(path) == []
    writer(path, SMALL)(EXIT)
    assert events(path)[-2:] == ["log-rotated", "worker-exit"]
    assert found(path) == []


def test_what_a_power_cut_took_is_told(path: Path) -> None:
    filled(path, 5)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    writer(path, boot=NEXT_BOOT)(EXIT)
    missing = next(record for record in records(path) if record.event == "records-missing")
    assert (missing.first, missing.last, missing.seq) == (4, 6, 7)
    assert "a power cut may lose a second" in missing.detail
    assert found(path) == [("cut", 7)]


def test_within_one_boot_it_was_a_hand(path: Path) -> None:
    filled(path, 5)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    writer(path, boot=BOOT)(EXIT)
    assert next(record for record in records(path) if record.event == "records-missing").detail.endswith(
        "this very boot"
    )


def test_a_log_that_was_cut_down_to_nothing_is_told(path: Path) -> None:
    filled(path, 5)
    path.unlink()
    writer(path)(EXIT)
    assert events(path) == ["log-begun", "records-missing", "worker-exit"]
    assert {wrong for wrong, _ in found(path)} == {"cut"}


def test_an_edit_is_still_found_after_the_next_start(path: Path) -> None:
    filled(path, 5)
    path.write_bytes(path.read_bytes().replace(b"parser.4", b"parser.5"))
    writer(path)(EXIT)
    assert "log-damaged" in events(path)
    assert found(path)[0] == ("edited", 6)


# --- a full disk --------------------------------------------------------------------------------------------------


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """No file can be larger: a write then fails, or comes about in part, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 50, 300, 1000])
def test_without_room_nobody_is_stopped_and_all_is_counted(path: Path, room: int) -> None:
    said: list[str] = []
    audit = writer(path, say=lambda *words: said.append(" ".join(words)))
    audit(EXIT)
    with no_room_beyond(path.stat().st_size + room):
        for _ in range(10):
            audit(EXIT)
        assert found(path) == []
    assert len(said) == 1
    assert "records are lost" in said[0]
    audit(EXIT)
    told = records(path)
    assert audit.lost == sum(one.count for one in told)
    assert audit.lost + sum(one.event == "worker-exit" for one in told) == 12
    status, verdict_told = verdict(path)
    assert (status, "records could not be written" in verdict_told["notes"][0]) == (0, True)


def test_one_that_began_without_room_begins_properly_later(path: Path) -> None:
    audit = writer(path)
    with no_room_beyond(0):
        audit(EXIT)
    audit(EXIT)
    assert events(path) == ["log-begun", "records-lost", "worker-exit"]
    assert found(path) == []


def test_a_new_file_without_room_begins_properly_later(path: Path) -> None:
    audit = filled(path, 5, SMALL)
    while path.stat().st_size < SMALL.file_bytes:
        audit(EXIT)
    with no_room_beyond(0):
        audit(EXIT)
    audit(EXIT)
    assert events(path)[-3:] == ["log-rotated", "records-lost", "worker-exit"]
    assert found(path) == []


def test_what_is_no_file_of_ours_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("someone's")
    (tmp_path / "audit.log").symlink_to(tmp_path / "target")
    audit = writer(tmp_path / "audit.log")
    audit(EXIT)
    assert audit.lost == 1
    assert (tmp_path / "target").read_text() == "someone's"


def test_a_record_costs_little(path: Path) -> None:
    audit = writer(path, Bounds(file_bytes=1 << 30), later=lambda *_: None)
    began = time.process_time()
    for _ in range(2000):
        audit(EXIT)
    print(f"{(time.process_time() - began) / 2000 * 1e6:.0f} us a record, {path.stat().st_size / 2001:.0f} bytes")
    assert found(path) == []


# --- a death at any moment ---------------------------------------------------------------------------------------

BUSY = """
import sys
from pathlib import Path
from tests.unit.audit_log.test_audit_log_writing import EXIT
from tests.unit.audit_log.written import SMALL, writer
audit = writer(Path(sys.argv[1]), SMALL, later=lambda *_: None)
while True:
    audit(EXIT)
"""


def test_kill_9_at_any_moment_leaves_a_log_that_goes_on(path: Path) -> None:
    draw = random.Random(8)
    for _ in range(8):
        goal = _end(path) + 1 + draw.randrange(300)
        busy = subprocess.Popen([sys.executable, "-c", BUSY, str(path)], cwd=PROJECT)
        until("it wrote so many", lambda due=goal: _end(path) >= due, every_s=0)  # type: ignore[misc]
        busy.kill()
        busy.wait()
        status, told = verdict(path)
        assert status == 0, told
        assert told["last"] >= goal
    assert files_of(path)[0].name != "audit.log"


def _end(path: Path) -> int:
    """The last record's number, by the head file."""
    try:
        return int(path.with_name("audit.log.head").read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return 0
