# SPDX-License-Identifier: Apache-2.0
"""What is left on disk of goal states: the history and its archives, fast_track.json, and a disk that is full."""

import io
import os
import stat
import zipfile
from pathlib import Path

import msgspec
import pytest

from supervisor.goal_state.fast_track import FILE, FastTrack
from supervisor.goal_state.history import KEPT, KEPT_BYTES, MOST_ARCHIVED_BYTES, MOST_ARCHIVED_FILES, History
from supervisor.goal_state.keeping import Keeping
from supervisor.goal_state.zipped import archive
from tests.unit.supervisor.turned import HandClock

CREATED = "2026-01-02T03:04:05.600000Z"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def add(history: History, incarnation: str, etag: str, files: dict[str, bytes]) -> str:
    path = history.begin(incarnation, etag)
    history.fill(path, files)
    return path


def test_an_archive_is_one_that_others_read() -> None:
    files = {"GoalState.xml": b"<a/>" * 5000, "empty": b"", "Größe.json": bytes(range(256))}
    with zipfile.ZipFile(io.BytesIO(archive(files, 0o600, 1.8e9))) as read:
        assert read.testzip() is None
        assert {name: read.read(name) for name in read.namelist()} == files
        one = read.getinfo("GoalState.xml")
        assert (one.date_time, one.external_attr >> 16) == ((2027, 1, 15, 8, 0, 0), 0o600)
        assert one.compress_size < 200


def test_archives_go_when_all_together_are_too_large(tmp_path: Path, clock: HandClock) -> None:
    history = History(str(tmp_path), clock)
    add(history, "0", "", {"GoalState.xml": b"<0/>"})
    for number in range(1, 5):
        large = tmp_path / f"history/1960-01-0{number}T00-00-00__{number}.zip"
        large.touch()
        os.truncate(large, KEPT_BYTES // 3)
    clock.now += 1
    newest = add(history, "5", "", {"GoalState.xml": b"<5/>"})
    entries = history.entries()
    # The newest of the large ones stay, as many as there is room for beside the small one.
    assert [entry.ids for entry in entries] == ["5", "0", "4", "3"]
    assert entries[0].path == newest


def test_the_newest_is_a_folder_and_the_others_are_archives(tmp_path: Path, clock: HandClock) -> None:
    history = History(str(tmp_path), clock)
    newest = ""
    for number in range(KEPT + 5):
        clock.now += 1
        newest = add(history, str(number), "", {"GoalState.xml": f"<{number}/>".encode()})
    entries = history.entries()
    assert len(entries) == KEPT
    assert (entries[0].path, entries[0].is_archived, entries[0].ids) == (newest, False, str(KEPT + 4))
    assert all(entry.is_archived for entry in entries[1:])
    assert entries[-1].ids == "5"
    with zipfile.ZipFile(entries[1].path) as read:
        assert read.read("GoalState.xml") == f"<{KEPT + 3}/>".encode()
    folder = tmp_path / "history"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, Path(newest), Path(entries[1].path))] == [
        0o700,
        0o700,
        0o600,
    ]


def test_what_the_host_sends_never_leaves_the_folder(tmp_path: Path, clock: HandClock) -> None:
    history = History(str(tmp_path), clock)
    path = add(history, "../../etc", "x/../" + "9" * 500, {"a": b""})
    assert Path(path).resolve().parent == tmp_path / "history"
    assert history.has("x/../" + "9" * 500)


def test_a_kill_within_the_archiving_loses_nothing(tmp_path: Path, clock: HandClock) -> None:
    history = History(str(tmp_path), clock)
    first = Path(add(history, "1", "", {"a": b"1", "b": b"2"}))
    # Killed after the archive was in its place, and again while it was made.
    whole = archive({"a": b"1", "b": b"2"}, 0o600, 1e9)
    Path(f"{first}.zip").write_bytes(whole)
    (first / "a").unlink()
    (tmp_path / "history" / "torn.zip.tmp").write_bytes(b"PK")
    clock.now += 1
    add(history, "2", "", {})
    assert not first.exists()
    assert Path(f"{first}.zip").read_bytes() == whole
    assert not (tmp_path / "history" / "torn.zip.tmp").exists()


def test_vm_settings_that_cannot_be_read_are_noted_once(tmp_path: Path, clock: HandClock) -> None:
    keeping = Keeping(str(tmp_path), clock, lambda *_: None)
    for etag in ("7", "7", "8"):
        clock.now += 1
        keeping.note_unreadable(etag, "element 3: not JSON")
    assert [entry.ids for entry in keeping.past()] == ["8", "7"]


def test_a_full_disk_is_said_and_endured(tmp_path: Path, clock: HandClock) -> None:
    said: list[str] = []
    keeping = Keeping(str(tmp_path / "absent"), clock, lambda *words: said.append(words[2]))
    (tmp_path / "absent").write_bytes(b"")  # no folder: every write in it fails
    for _ in range(10):
        keeping.begin("1", "")
        keeping.keep(None, {"Certificates.json": b"[]"})
    assert len(said) == 3
    assert "not written down" in said[0]
    assert keeping.folder == ""
    assert keeping.past() == ()


def test_fast_track_is_remembered_and_forgotten(tmp_path: Path, clock: HandClock) -> None:
    first = FastTrack(str(tmp_path), clock)
    assert first.created == ""
    first.note(CREATED)
    assert msgspec.json.decode((tmp_path / FILE).read_bytes()) == {"timestamp": CREATED}
    assert FastTrack(str(tmp_path), clock).created == CREATED
    first.clear()
    first.clear()
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("written", "created"),
    [
        ('{"timestamp": "2021-11-17T20:22:11.123Z"}', "2021-11-17T20:22:11.123000Z"),
        ('{"timestamp": "2021-11-17T20:22:11"}', "2021-11-17T20:22:11.000000Z"),
        ("not JSON", "1970-01-01T00:16:40.000000Z"),
        ('{"timestamp": 5}', "1970-01-01T00:16:40.000000Z"),
        ('{"timestamp": "yesterday"}', "1970-01-01T00:16:40.000000Z"),
    ],
)
def test_what_another_agent_has_written_counts(tmp_path: Path, clock: HandClock, written: str, created: str) -> None:
    (tmp_path / FILE).write_text(written)
    assert FastTrack(str(tmp_path), clock).created == created


def test_a_host_with_a_new_etag_at_each_poll_does_not_fill_the_disk(tmp_path: Path, clock: HandClock) -> None:
    keeping = Keeping(str(tmp_path), clock, lambda *_: None)
    for etag in range(3 * KEPT):
        clock.now += 6
        keeping.note_unreadable(str(etag), "element 3: not JSON")
    assert len(keeping.past()) == 2 * KEPT
    keeping.begin("1", "")
    keeping.keep(None, {"Certificates.json": b"[]"})
    assert len(keeping.past()) == KEPT


def test_a_status_goes_into_no_pipe_and_no_other_files_second_name(tmp_path: Path, clock: HandClock) -> None:
    keeping = Keeping(str(tmp_path), clock, lambda *_: None)
    keeping.begin("1", "")
    status, other = Path(keeping.folder) / "waagent_status.json", tmp_path / "other"
    other.write_bytes(b"precious")
    for kind in ("second name", "pipe", "link"):
        status.unlink(missing_ok=True)
        if kind == "second name":
            status.hardlink_to(other)
        elif kind == "pipe":
            os.mkfifo(status)
        else:
            status.symlink_to(other)
        keeping.keep_status(b"{}")
        assert (status.read_bytes(), other.read_bytes()) == (b"{}", b"precious")


def test_of_what_others_have_put_there_an_archive_has_a_bounded_part(tmp_path: Path, clock: HandClock) -> None:
    history = History(str(tmp_path), clock)
    planted = Path(history.begin("1", ""))
    for number in range(40):
        with (planted / f"{number:02}").open("wb") as file:
            file.truncate(1 << 20)
    clock.now += 1
    add(history, "2", "", {})
    with zipfile.ZipFile(f"{planted}.zip") as read:
        assert sum(each.file_size for each in read.infolist()) == MOST_ARCHIVED_BYTES
        assert len(read.infolist()) == MOST_ARCHIVED_FILES
    assert not planted.exists()
