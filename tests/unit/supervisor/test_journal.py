# SPDX-License-Identifier: Apache-2.0
"""The journal on real files: every cut, every flipped byte, full disks, and writers that are killed."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.errors import StateError
from supervisor import journal as module
from supervisor.journal import MAGIC, Journal, UnusableJournal, replay
from supervisor.records import (
    AnyRecord,
    HostKeysInstalled,
    HostKeysStaged,
    ProvisioningBegun,
    ProvisioningFailed,
    ProvisioningFinished,
    ReadyAccepted,
    State,
    Step,
    StepDone,
    StepIntended,
)

WHOLE: tuple[AnyRecord, ...] = (
    ProvisioningBegun("vm-1"),
    StepIntended("host-name", "d1"),
    StepDone("host-name", "d1"),
    HostKeysStaged("/var/lib/agent-supervisor/keys.1"),
    StepIntended("account", "d2"),
    HostKeysInstalled("SHA256:abc"),
    StepDone("account", "d2"),
    ProvisioningFinished("vm-1"),
    ReadyAccepted(),
)


def written(path: Path, records: tuple[AnyRecord, ...] = WHOLE) -> list[int]:
    """Write a journal; where each of its records begins, and the end."""
    journal = Journal(path)
    offsets = [journal.size_bytes]
    for record in records:
        journal.append(record)
        offsets.append(journal.size_bytes)
    journal.close()
    return offsets


def folded(records: tuple[AnyRecord, ...]) -> State:
    state = State()
    for record in records:
        state = record.after(state)
    return state


def test_what_was_appended_is_there_again(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    journal = Journal(tmp_path / "journal")
    assert journal.notes == ()
    assert journal.state == State(
        begun="vm-1",
        steps={"host-name": Step("d1", True), "account": Step("d2", True)},
        fingerprint="SHA256:abc",
        finished="vm-1",
        ready=True,
    )
    assert (tmp_path / "journal").stat().st_mode & 0o7777 == 0o600
    journal.close()


def test_cut_off_at_every_byte_the_whole_records_before_it_remain(tmp_path: Path) -> None:
    offsets = written(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    path = tmp_path / "journal"
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        journal = Journal(path)
        complete = sum(offset <= length for offset in offsets[1:])
        assert journal.state == folded(WHOLE[:complete]), length
        torn = length not in offsets and length > len(MAGIC)
        assert bool(journal.notes) == torn, length
        # It takes records again, and the next start finds them.
        journal.append(ProvisioningFailed("text"))
        journal.close()
        again = Journal(path)
        assert again.state == folded((*WHOLE[:complete], ProvisioningFailed("text")))
        assert again.notes == ()
        again.close()


def test_a_flipped_byte_is_never_overlooked(tmp_path: Path) -> None:
    offsets = written(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    path = tmp_path / "journal"
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x41]) + content[position + 1 :])
        aside = tmp_path / "journal.damaged.1"
        aside.unlink(missing_ok=True)
        if position >= offsets[-2]:
            # The last record: no different from one that was being written when the power went.
            journal = Journal(path)
            assert journal.state == folded(WHOLE[:-1])
            assert "cut off" in journal.notes[0]
            journal.close()
            continue
        with pytest.raises(StateError, match=r"kept as .*journal\.damaged\.1"):
            Journal(path)
        assert aside.exists()
        assert not path.exists()


def test_zeros_at_the_end_as_a_power_cut_leaves_them_are_cut_off(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    with (tmp_path / "journal").open("ab") as file:
        file.write(bytes(4096))
    journal = Journal(tmp_path / "journal")
    assert journal.notes == ("cut off 4096 bytes of an unfinished record after 9 records",)
    assert journal.state == folded(WHOLE)
    journal.close()


def test_damaged_files_do_not_pile_up(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for _ in range(20):
        path.write_bytes(b"something else altogether")
        with pytest.raises(StateError, match="not a journal"):
            Journal(path)
    assert len(list(tmp_path.iterdir())) == module.DAMAGED_KEPT
    Journal(path).close()


def test_what_can_not_follow_is_refused_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    for record in (
        StepDone("never", "d"),
        ProvisioningFailed("x" * 5000),
        HostKeysInstalled(""),
    ):
        with pytest.raises(StateError):
            journal.append(record)
    journal.append(StepIntended("step", "one"))
    with pytest.raises(StateError, match="never intended"):
        journal.append(StepDone("step", "two"))
    journal.close()
    assert replay(path.read_bytes()).records == 1


def test_a_full_disk_is_an_error_before_the_act_and_nothing_half_written_stays(tmp_path: Path) -> None:
    """The limit on a file's size stands for the full disk: a write is cut short, then refused."""
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.append(ProvisioningBegun("vm-1"))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, hard))
    try:
        with pytest.raises(StateError, match="File too large"):
            journal.append(StepIntended("account", "d"))
        with pytest.raises(StateError, match="File too large"):
            journal.append(ReadyAccepted())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert journal.state == State(begun="vm-1")
    journal.append(StepIntended("account", "d"))
    journal.close()
    assert replay(path.read_bytes()).records == 2


def test_one_writer_only(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal")
    with pytest.raises(StateError, match="in use"):
        Journal(tmp_path / "journal")
    first.compact()
    with pytest.raises(StateError, match="in use"):
        Journal(tmp_path / "journal")
    first.close()
    with pytest.raises(StateError, match="closed"):
        first.append(ReadyAccepted())
    Journal(tmp_path / "journal").close()


def test_what_is_no_file_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "folder", "fifo", "absent/journal"):
        with pytest.raises(StateError):
            Journal(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.root
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    os.chown(tmp_path / "journal", 65534, 65534)
    with pytest.raises(StateError, match="of this user"):
        Journal(tmp_path / "journal")


def test_a_journal_that_grows_is_compacted_and_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    for record in WHOLE:
        journal.append(record)
    while journal.size_bytes < module.COMPACT_BYTES - 2100:
        journal.append(ProvisioningFailed("x" * 2000))
    for number in range(3):
        journal.append(ProvisioningFailed(f"{number}" + "x" * 2000))
    assert journal.size_bytes < 10_000
    journal.append(ProvisioningFailed("last"))
    journal.close()
    again = Journal(path)
    assert again.state == folded((*WHOLE, ProvisioningFailed("last")))
    again.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["journal"]


def test_a_compaction_cut_short_leaves_the_old_file_in_force(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written(path)
    (tmp_path / "journal.new").write_bytes(path.read_bytes()[:20])
    journal = Journal(path)
    assert journal.state == folded(WHOLE)
    journal.compact()
    journal.close()
    assert not (tmp_path / "journal.new").exists()
    assert replay(path.read_bytes()).state == folded(WHOLE)


NAMES = st.sampled_from(["a", "b", "c"])
RECORDS = st.one_of(
    st.builds(ProvisioningBegun, NAMES),
    st.builds(StepIntended, NAMES, NAMES),
    st.builds(StepDone, NAMES, NAMES),
    st.builds(HostKeysStaged, NAMES),
    st.builds(HostKeysInstalled, NAMES),
    st.builds(ProvisioningFinished, NAMES),
    st.builds(ReadyAccepted),
    st.builds(ProvisioningFailed, NAMES),
)


@given(st.lists(RECORDS, max_size=30))
@settings(max_examples=300)
def test_compaction_never_changes_the_state(records: list[AnyRecord]) -> None:
    state = State()
    for record in records:
        try:
            state = record.after(state)
        except StateError:
            assert isinstance(record, StepDone)
    assert folded(state.records()) == state


@given(st.binary(max_size=300), st.booleans())
def test_replay_takes_any_bytes(content: bytes, with_magic: bool) -> None:
    replayed = replay(MAGIC + content if with_magic else content.ljust(8, b"x"))
    assert replayed.records == 0 or replayed.end <= len(MAGIC) + len(content)


WRITER = """
import sys
from pathlib import Path
from supervisor.journal import Journal
from supervisor.records import StepDone, StepIntended
journal = Journal(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    journal.append(StepIntended(f"step-{number % 40}", str(number)))
    print("intended", number, flush=True)
    journal.append(StepDone(f"step-{number % 40}", str(number)))
    print("done", number, flush=True)
    if number % 7 == 0:
        journal.compact()
    number += 1
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    number = 0
    for attempt in range(15):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(number)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(1 + 5 * attempt)]
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        word, last = told[-1].split() if told[-1].endswith("\n") else told[-2].split()
        number = int(last)
        journal = Journal(path)
        step = journal.state.steps[f"step-{number % 40}"]
        newer = journal.state.steps.get(f"step-{(number + 1) % 40}")
        assert step.digest == str(number)
        # At most the next record got in before the news of it got out.
        assert step.done or word == "intended"
        assert newer is None or int(newer.digest) <= number + 1
        journal.close()
        number += 1


def test_an_unusable_journal_takes_nothing_and_says_why(tmp_path: Path) -> None:
    journal = UnusableJournal(tmp_path / "journal", "the disk is full")
    assert (journal.state, journal.notes) == (State(), ())
    with pytest.raises(StateError, match="the disk is full"):
        journal.append(ProvisioningFailed("text"))
    journal.close()
    assert list(tmp_path.iterdir()) == []
