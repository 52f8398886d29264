# SPDX-License-Identifier: Apache-2.0
"""What killed account tools leave is cleared away, what living ones have stays; ranges of ids as useradd gives them."""

import os
import subprocess
from pathlib import Path

import pytest

from workers.committers.account_files import FILES, SUBGID, SUBUID
from workers.committers.account_leavings import clear_leavings
from workers.committers.subordinate_ids import missing_ranges

HERE = {SUBUID: True, SUBGID: True}
SETTINGS = "# comment\nSUB_UID_MIN 100000\nSUB_UID_COUNT\t65536\nSUB_GID_MIN 500000\n"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    return folder


def names(etc: Path) -> set[str]:
    return {path.name for path in etc.iterdir()} - {".pwd.lock"}


def gone() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_the_dead_left_goes_and_everything_else_stays(etc: Path) -> None:
    pid = gone()
    for name in ("subuid.lock", "passwd.lock"):
        (etc / name).write_bytes(f"{pid}\0".encode())
    for name in (f"group.{pid}", "shadow+", "subgid+", "passwd-", "passwd.old", "shadow.1x", "hosts+", "hosts.lock"):
        (etc / name).write_bytes(b"")
    clear_leavings(etc.parent)
    assert names(etc) == {"passwd", "passwd-", "passwd.old", "shadow.1x", "hosts+", "hosts.lock"}


def test_the_lock_of_one_who_lives_stays_with_what_it_prepares(etc: Path) -> None:
    (etc / "shadow.lock").write_bytes(f"{os.getpid()}\0".encode())
    (etc / "shadow+").write_bytes(b"half")
    (etc / f"passwd.{os.getpid()}").write_bytes(b"")
    before = names(etc)
    clear_leavings(etc.parent)
    assert names(etc) == before


def test_a_process_that_only_has_the_number_of_a_dead_one_keeps_nothing(etc: Path) -> None:
    lock = etc / "group.lock"
    lock.write_bytes(f"{os.getpid()}\n".encode())
    os.utime(lock, (0, 0))
    clear_leavings(etc.parent)
    assert names(etc) == {"passwd"}


def test_nothing_is_locked_where_nothing_is_left(etc: Path) -> None:
    clear_leavings(etc.parent)
    assert [path.name for path in etc.iterdir()] == ["passwd"]


def ranges(uids: tuple[str, ...] = (), gids: tuple[str, ...] = (), settings: str = SETTINGS) -> list[str]:
    now = dict.fromkeys(FILES, ()) | {SUBUID: uids, SUBGID: gids}
    return missing_ranges(now, HERE, settings, "ann")


def test_an_account_gets_the_first_free_range_of_each_kind() -> None:
    assert ranges() == ["--add-subuids", "100000-165535", "--add-subgids", "500000-565535"]
    taken = ("bob:100000:65536", "broken", "eve:165536:10")
    assert ranges(taken, ("ann:1:1",)) == ["--add-subuids", "165546-231081"]
    assert ranges(("bob:200000:65536",), ("ann:1:1",)) == ["--add-subuids", "100000-165535"]


def test_none_where_there_is_none_to_be_had() -> None:
    assert ranges(settings="SUB_UID_COUNT 0\nSUB_GID_COUNT 0\n") == []
    assert ranges(settings="SUB_UID_MAX 100001\nSUB_GID_COUNT 0\n") == []
    nothing = dict.fromkeys(FILES, ())
    assert missing_ranges(nothing, {SUBUID: False, SUBGID: False}, SETTINGS, "ann") == []
