# SPDX-License-Identifier: Apache-2.0
"""The home committer, in child processes that really become another uid, against every trap a home can hold."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ipc.errors import CommitError
from ipc.messages import CommitKeys
from supervisor.jail.beneath import open_beneath
from tests.unit.committers.apart import apart
from workers.committers.commit import perform
from workers.committers.home_keys import become_account, place_keys

pytestmark = pytest.mark.root

UID, GID = 54321, 54322
KEYS = ("ssh-ed25519 AAAAone first", "ssh-rsa AAAAtwo second")
PATH = ".ssh/authorized_keys"


def request(home: Path, path: str = PATH, keys: tuple[str, ...] = KEYS) -> CommitKeys:
    return CommitKeys(UID, GID, str(home), path, keys)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other uids can walk through, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def home(place: Path) -> Path:
    folder = place / "home"
    folder.mkdir(mode=0o755)
    os.chown(folder, UID, GID)
    return folder


def own(*paths: Path) -> None:
    for path in paths:
        os.chown(path, UID, GID, follow_symlinks=False)


def as_account(body: Callable[[], None]) -> None:
    apart(body, namespaces=0, system_copy=False)


def refused(what: CommitKeys, words: str) -> None:
    def body() -> None:
        with pytest.raises(CommitError, match=words) as failure:
            perform(partial(place_keys, open_beneath), what)
        assert not failure.value.changed

    as_account(body)


def test_keys_are_added_once_by_the_account_itself(home: Path) -> None:
    def body() -> None:
        changes = {change.path: change for change in perform(partial(place_keys, open_beneath), request(home)).changes}
        assert {path: (each.mode, each.uid, each.gid) for path, each in changes.items()} == {
            f"{home}/.ssh": (0o700, UID, GID),
            f"{home}/{PATH}": (0o600, UID, GID),
        }

    def again() -> None:
        assert perform(partial(place_keys, open_beneath), request(home)).changes == ()

    as_account(body)
    as_account(again)
    assert (home / PATH).read_text().splitlines() == list(KEYS)
    assert [path.name for path in (home / ".ssh").iterdir()] == ["authorized_keys"]


def test_old_keys_stay_and_a_missing_newline_is_made_good(home: Path) -> None:
    (home / ".ssh").mkdir(mode=0o755)
    (home / PATH).write_text(f"# mine\n{KEYS[1]}")
    own(home / ".ssh", home / PATH)
    as_account(lambda: _done(request(home)))
    assert (home / PATH).read_text().splitlines() == ["# mine", KEYS[1], KEYS[0]]
    assert stat.S_IMODE((home / ".ssh").stat().st_mode) == 0o700


def _done(what: CommitKeys) -> None:
    perform(partial(place_keys, open_beneath), what)


def test_becoming_the_account_leaves_no_way_back() -> None:
    def body() -> None:
        become_account(UID, GID)
        assert os.getresuid() == (UID, UID, UID)
        assert os.getgroups() == [GID]
        with pytest.raises(PermissionError):
            os.setuid(0)
        with pytest.raises(PermissionError):
            os.setgroups([])
        with pytest.raises(PermissionError):
            os.chroot("/")

    as_account(body)


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "", ".", "a//b", "a/.", "a\0b"])
def test_no_path_leads_out(home: Path, path: str) -> None:
    refused(request(home, path), "no path below a home")


@pytest.mark.parametrize("key", ["ssh-rsa A\nssh-rsa B", "ssh-rsa A\r", ""])
def test_a_key_is_one_line(home: Path, key: str) -> None:
    refused(request(home, keys=(key,)), "not one line")


def test_links_are_not_followed(home: Path, place: Path) -> None:
    outside = place / "outside"
    outside.mkdir()
    (outside / "authorized_keys").write_text("")
    own(outside, outside / "authorized_keys")
    (home / ".ssh").symlink_to(outside)
    refused(request(home), "not a folder")
    (home / ".ssh").unlink()
    (home / ".ssh").mkdir(mode=0o700)
    (home / PATH).symlink_to(outside / "authorized_keys")
    own(home / ".ssh")
    refused(request(home), "symbolic links|authorized_keys")
    assert (outside / "authorized_keys").read_text() == ""


def test_files_with_a_second_name_or_another_owner_are_left_alone(home: Path, place: Path) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    own(home / ".ssh")
    (home / PATH).write_text("")
    refused(request(home), "not a plain file")
    own(home / PATH)
    os.link(home / PATH, place / "second")
    refused(request(home), "second name")
    (home / PATH).unlink()
    os.mkfifo(home / PATH)
    own(home / PATH)
    refused(request(home), "not a plain file")
    assert (place / "second").read_text() == ""


def test_a_folder_of_another_account_is_left_alone(home: Path) -> None:
    (home / ".ssh").mkdir(mode=0o777)
    (home / ".ssh").chmod(0o777)
    refused(request(home), "belongs to another account")


def test_a_temporary_file_planted_before_is_not_written_through(home: Path, place: Path) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    victim = place / "victim"
    victim.write_text("whole")
    own(home / ".ssh", victim)
    (home / ".ssh/.authorized_keys.agent-supervisor").symlink_to(victim)
    as_account(lambda: _done(request(home)))
    assert victim.read_text() == "whole"
    assert (home / PATH).read_text().splitlines() == list(KEYS)


def test_root_owned_homes_are_out_of_reach(home: Path) -> None:
    os.chown(home, 0, 0)
    refused(request(home), "Permission denied")
