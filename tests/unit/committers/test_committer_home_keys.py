# SPDX-License-Identifier: Apache-2.0
"""The home committer, in child processes that really become another uid, against every trap a home can hold."""

import base64
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ipc.errors import CommitError
from ipc.messages import CommitKeyPair, CommitKeys
from supervisor.jail.beneath import open_beneath
from tests.unit.committers.apart import apart
from tests.unit.committers.programs_here import perform
from workers.committers.home_keys import become_account, place_keys, place_pair
from workers.provisioning import grammar

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


PRIVATE = b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"


def put_pair(home: Path, private: bytes = PRIVATE, path: str = ".ssh/id_rsa") -> dict[str, tuple[int, int, int]]:
    """Has it written; the mode and owners of each path that was."""
    order = CommitKeyPair(UID, GID, str(home), path, KEYS[1])
    changes = perform(partial(place_pair, open_beneath, private), order).changes
    return {change.path: (change.mode, change.uid, change.gid) for change in changes}


def test_a_key_pair_is_the_accounts_and_only_its_public_half_is_for_others(home: Path) -> None:
    def body() -> None:
        assert put_pair(home) == {
            f"{home}/.ssh": (0o700, UID, GID),
            f"{home}/.ssh/id_rsa.pub": (0o644, UID, GID),
            f"{home}/.ssh/id_rsa": (0o600, UID, GID),
        }

    def again() -> None:
        assert put_pair(home) == {}

    def another() -> None:
        (home / ".ssh/id_rsa").chmod(0o644)
        assert put_pair(home) == {f"{home}/.ssh/id_rsa": (0o600, UID, GID)}

    for each in (body, again, another):
        as_account(each)
    assert (home / ".ssh/id_rsa").read_bytes() == PRIVATE
    assert (home / ".ssh/id_rsa.pub").read_text() == f"{KEYS[1]}\n"
    assert sorted(path.name for path in (home / ".ssh").iterdir()) == ["id_rsa", "id_rsa.pub"]


def test_a_key_pair_goes_through_no_link_and_out_of_no_home(home: Path, place: Path) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    victim = place / "victim"
    victim.write_text("whole")
    own(home / ".ssh", victim)
    (home / ".ssh/id_rsa").symlink_to(victim)

    def refused_pair(words: str, private: bytes = PRIVATE, path: str = ".ssh/id_rsa") -> None:
        with pytest.raises(CommitError, match=words) as failure:
            put_pair(home, private, path)
        assert not failure.value.changed
        assert "MIIE" not in str(failure.value)

    as_account(lambda: refused_pair("id_rsa is a link"))
    as_account(lambda: refused_pair("no path below a home", path="../id_rsa"))
    as_account(lambda: refused_pair("not a private key", b"something else, MIIE"))
    assert victim.read_text() == "whole"


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
    refused(request(home), r"\.ssh is not a folder, or a link to one, and links are not followed there")
    (home / ".ssh").unlink()
    (home / ".ssh").touch()
    refused(request(home), r"\.ssh is not a folder")
    (home / ".ssh").unlink()
    (home / ".ssh").mkdir(mode=0o700)
    (home / PATH).symlink_to(outside / "authorized_keys")
    own(home / ".ssh")
    refused(request(home), "authorized_keys is a link, and links are not followed there")
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
    refused(request(home), "authorized_keys is a folder or a device, not a plain file")
    (home / PATH).unlink()
    (home / PATH).mkdir()
    own(home / PATH)
    refused(request(home), "authorized_keys is a folder or a device, not a plain file")
    (home / PATH).rmdir()
    (home / PATH).touch(mode=0o600)
    refused(request(home), "authorized_keys is there, and the account may not read it")
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
    refused(request(home), r"\.ssh can't be made: the account may not write to .*, which belongs to uid 0")


def test_a_home_that_is_not_there_is_told(home: Path) -> None:
    refused(request(home / "none"), "the account's home .*/none does not exist")
    (home / "file").touch()
    refused(request(home / "file"), "the account's home .*/file is not a folder")


def test_the_way_to_the_home_may_be_a_link_of_roots_to_another_file_system(home: Path, place: Path) -> None:
    def body() -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(home)], check=True)
        own(home)
        link = place / "link"
        link.symlink_to(home)
        child = os.fork()
        if child == 0:
            _done(request(link))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert (home / PATH).read_text().splitlines() == list(KEYS)

    apart(body, system_copy=False)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_no_component_below_the_home_is_a_link(home: Path, place: Path, depth: int) -> None:
    """Each in its turn leads to a folder that the account could write to."""
    parts = [".config", "ssh", "keys"]
    outside = place / "outside"
    (outside / "ssh").mkdir(parents=True)
    (outside / "keys").touch()
    own(outside, outside / "ssh", outside / "keys")
    folder = home
    for part in parts[:depth]:
        folder /= part
        folder.mkdir(mode=0o700)
        own(folder)
    (folder / parts[depth]).symlink_to(outside / "keys" if depth == 2 else outside)
    refused(request(home, "/".join(parts)), f"{parts[depth]} is .*a link.*, and links are not followed there")
    assert sorted(path.name for path in outside.rglob("*")) == ["keys", "ssh"]


def test_every_type_of_key_that_is_placed_is_one_that_openssh_reads(home: Path, place: Path) -> None:
    keys = []
    for kind in ("rsa", "dsa", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "ed25519"):
        path = place / kind.replace(" ", "")
        subprocess.run(["ssh-keygen", "-q", "-t", *kind.split(), "-N", "", "-C", kind, "-f", str(path)], check=True)
        keys.append(path.with_name(f"{path.name}.pub").read_text().strip())
    keys += [_of_a_token("sk-ssh-ed25519@openssh.com", b"\x07" * 32)]
    keys += [_of_a_token("sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", _point(keys[2]))]
    taken = tuple(grammar.public_key(key) for key in keys)
    assert taken == tuple(keys)
    as_account(lambda: _done(request(home, keys=taken)))
    shown = subprocess.run(["ssh-keygen", "-lf", str(home / PATH)], check=True, capture_output=True, text=True)
    kinds = "RSA DSA ECDSA ECDSA ECDSA ED25519 ED25519-SK ECDSA-SK"
    assert [line.rpartition("(")[2].rstrip(")") for line in shown.stdout.splitlines()] == kinds.split()


def _of_a_token(kind: str, *parts: bytes) -> str:
    """A public key as a security token's would be: its type, its parts, the application."""
    blob = b"".join(len(part).to_bytes(4) + part for part in (kind.encode(), *parts, b"ssh:"))
    return f"{kind} {base64.b64encode(blob).decode()} token"


def _point(ecdsa_key: str) -> bytes:
    """The point of an ecdsa-sha2-nistp256 key: the 65 bytes at its end."""
    return base64.b64decode(ecdsa_key.split()[1])[-65:]
