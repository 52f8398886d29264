# SPDX-License-Identifier: Apache-2.0
"""The end of JIT accounts over a private copy of /etc: all of them goes, of nobody else anything, however it is cut."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from ipc.errors import CommitError
from ipc.messages import CommitAccount, CommitPassword, CommitSudo
from ipc.messages.commits import CommitPaths
from ipc.messages.jit import ORDINARY, MoveJitExpiry, RemoveJitAccount, WithdrawSudo
from ipc.secret import Secret
from tests.unit.committers.apart import apart
from tests.unit.committers.programs_here import perform
from workers.committers import account_files as files
from workers.committers import account_removal, sudoers
from workers.committers.account import make_account
from workers.committers.jit_account import move_expiry, remove_account
from workers.committers.password import set_password

pytestmark = pytest.mark.root

ROOT = Path("/")
NAME, HOME = "visitor", Path("/home/visitor")
MAKE = CommitAccount(NAME, str(HOME), 1000, "JIT_Account", "2031-04-05")
REMOVE = RemoveJitAccount(NAME, "/home", 1000)
SUDO = CommitSudo(NAME, without_password=False, paths=CommitPaths())
HASH = "$6$abcdefghij$" + "x" * 86


def make() -> int:
    """The account with all that it gets; its uid."""
    perform(make_account, MAKE)
    perform(set_password, CommitPassword(NAME, Secret(HASH)))
    return HOME.stat().st_uid


def append(path: str, line: str) -> None:
    with Path(path).open("a") as stream:
        stream.write(f"{line}\n")


def test_what_was_made_goes_and_all_else_stays() -> None:
    def body() -> None:
        Path("/etc/group").write_text(Path("/etc/group").read_text().replace("sudo:x:27:", "sudo:x:27:games"))
        before = files.read(ROOT)
        uid = make()
        subprocess.run(["usermod", "-aG", "sudo", NAME], check=True)
        Path("/var/mail").mkdir(exist_ok=True)
        deep = HOME.joinpath(*["d"] * 300)
        deep.mkdir(parents=True)
        (HOME / "closed").mkdir(mode=0)
        (HOME / "out").symlink_to("/etc")
        os.mkfifo(HOME / "pipe")
        said = perform(remove_account, REMOVE).fact
        assert said == f"account {NAME}, uid {uid}, removed"
        assert files.read(ROOT) == before
        assert list(Path("/home").iterdir()) == []
        assert Path("/etc/hostname").exists()
        assert perform(remove_account, REMOVE).fact == f"no account {NAME}"

    apart(body)


def test_what_runs_as_it_ends() -> None:
    def body() -> None:
        uid = make()
        swarm = "import os, signal\nos.setuid(%d)\nfor _ in range(4): os.fork()\nprint(flush=True)\nsignal.pause()"
        pipe = subprocess.PIPE
        with subprocess.Popen(["python3", "-c", swarm % uid], stdout=pipe) as running:
            assert running.stdout is not None
            for _ in range(16):
                running.stdout.readline()
            bystander = subprocess.Popen(["sleep", "60"])
            said = perform(remove_account, REMOVE).fact
            assert "16 processes ended" in said
            assert running.wait(5) == -9
            assert bystander.poll() is None
            bystander.kill()
            bystander.wait()

    apart(body)


@pytest.mark.parametrize("cut", [0, 1, 3, 5, 6, 7, 8])
def test_a_removal_that_was_cut_short_is_finished(cut: int) -> None:
    """It writes six files one after the other, sets the home aside before the last, and empties that after it."""

    def body() -> None:
        before = files.read(ROOT)
        make()
        if cut >= 7:
            HOME.rename("/home/.visitor.agent-supervisor-removed")
        paths = (*account_removal.FIRST, account_removal.LAST)
        for path in map(Path, paths[: min(cut, 5 if cut < 8 else 6)]):
            path.write_bytes(account_removal.without(str(path), path.read_bytes(), NAME, group=True))
        perform(remove_account, REMOVE)
        assert files.read(ROOT) == before
        assert list(Path("/home").iterdir()) == []

    apart(body)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{NAME}:x:4000:4000::/home/{NAME}:/bin/sh", "is an ordinary account"),
        (f"{NAME}:x:4000:4000:JIT_Account,,,:/home/{NAME}:/bin/sh", "is an ordinary account"),
        (f"{NAME}:x:0:0:JIT_Account:/home/{NAME}:/bin/sh", "uid 0, which is no person's"),
        (f"{NAME}:x:999:999:JIT_Account:/home/{NAME}:/bin/sh", "uid 999, which is no person's"),
        (f"{NAME}:x:65534:4000:JIT_Account:/home/{NAME}:/bin/sh", "uid 65534, which is no person's"),
        (f"{NAME}:x:4000:1:JIT_Account:/:/bin/sh\nalice:x:4000:1::/:/bin/sh", "visitor, alice have the same uid 4000"),
    ],
)
def test_who_is_no_jit_account_is_left_alone(line: str, words: str) -> None:
    def body() -> None:
        append("/etc/passwd", line)
        append("/etc/shadow", f"{NAME}:{HASH}:1::::::")
        HOME.mkdir()
        os.chown(HOME, 4000, 4000)
        before = files.read(ROOT)
        for act, order in ((remove_account, REMOVE), (move_expiry, MoveJitExpiry(NAME, 1000, 20000))):
            with pytest.raises(CommitError, match=words) as failure:
                perform(act, order)
            assert not failure.value.changed
        assert files.read(ROOT) == before
        assert HOME.is_dir()

    apart(body)


def test_one_that_its_user_has_added_to_by_chfn_is_known_by_its_uid() -> None:
    def body() -> None:
        before = files.read(ROOT)
        uid = make()
        subprocess.run(["chfn", "-r", "7", NAME], check=True)
        assert (files.entry(files.read(ROOT), files.PASSWD, NAME) or [])[4].startswith("JIT_Account,")
        for other in (0, uid + 1):
            with pytest.raises(CommitError, match=f"{NAME} {ORDINARY}"):
                perform(remove_account, replace(REMOVE, uid=other))
        perform(move_expiry, MoveJitExpiry(NAME, 1000, 22375, uid))
        perform(remove_account, replace(REMOVE, uid=uid))
        assert files.read(ROOT) == before

    apart(body)


@pytest.mark.parametrize("comment", ["", "Alice", "JIT_Accounts", ",JIT_Account"])
def test_a_uid_alone_makes_none_of_an_ordinary_account(comment: str) -> None:
    def body() -> None:
        append("/etc/passwd", f"{NAME}:x:4000:4000:{comment}:/home/{NAME}:/bin/sh")
        with pytest.raises(CommitError, match=ORDINARY):
            perform(remove_account, replace(REMOVE, uid=4000))

    apart(body)


def test_a_group_that_others_have_stays() -> None:
    def body() -> None:
        make()
        gid = HOME.stat().st_gid
        append("/etc/passwd", f"alice:x:4100:{gid}::/:/bin/sh")
        perform(remove_account, REMOVE)
        assert (files.entry(files.read(ROOT), files.GROUP, NAME) or [])[2] == str(gid)

    apart(body)


def elsewhere() -> None:
    subprocess.run(["usermod", "-d", "/srv", NAME], check=True)


def anothers() -> None:
    os.chown(HOME, 4100, 4100)


def a_link() -> None:
    shutil.rmtree(HOME)
    HOME.symlink_to("/etc")


def mounted() -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(HOME)], check=True)
    os.chown(HOME, int((files.entry(files.read(ROOT), files.PASSWD, NAME) or [])[2]), 0)
    (HOME / "file").touch()


def mounted_below() -> None:
    (HOME / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(HOME / "below")], check=True)
    (HOME / "below/file").touch()


def test_a_home_of_any_depth_goes() -> None:
    def body() -> None:
        make()
        folder = os.open(HOME, os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("d", dir_fd=folder)
            os.close(os.open("file", os.O_CREAT, dir_fd=folder))
            inner = os.open("d", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = inner
        os.close(folder)
        for number in range(2000):
            (HOME / f"d{number}").mkdir()
        perform(remove_account, REMOVE)
        assert list(Path("/home").iterdir()) == []

    apart(body)


def test_what_stays_of_one_account_keeps_no_later_one_of_its_name() -> None:
    def body() -> None:
        before, fact = files.read(ROOT), ""
        for _ in range(2):
            make()
            mounted_below()
            fact = perform(remove_account, REMOVE).fact
            assert files.read(ROOT) == before
        assert "/home/visitor stays, and is root's: another file system is mounted in it" in fact
        assert (HOME.stat().st_uid, HOME.stat().st_mode & 0o777) == (0, 0o700)

    apart(body)


@pytest.mark.parametrize(
    ("shape", "words", "kept"),
    [
        (elsewhere, "its home /srv is not /home/visitor: it stays", "/home/visitor"),
        (anothers, "it is no folder of uid", "/home/visitor"),
        (a_link, "it is no folder of uid", "/etc/passwd"),
        (mounted, "/home/visitor stays, and is root's: Device or resource busy", "/home/visitor/file"),
        (mounted_below, "another file system is mounted", "/home/.visitor.agent-supervisor-removed/below/file"),
    ],
)
def test_a_home_that_is_not_simply_its_own_stays_and_that_is_said(
    shape: Callable[[], None], words: str, kept: str
) -> None:
    def body() -> None:
        before = files.read(ROOT)
        make()
        shape()
        assert words in perform(remove_account, REMOVE).fact
        assert Path(kept).exists()
        assert files.read(ROOT) == before

    apart(body)


def test_the_day_of_expiry_is_moved() -> None:
    def body() -> None:
        make()
        before = files.read(ROOT)
        perform(move_expiry, MoveJitExpiry(NAME, 1000, 22375))
        files.replaced_field(before, files.read(ROOT), files.SHADOW, NAME, frozenset({7}))
        assert (files.entry(files.read(ROOT), files.SHADOW, NAME) or [])[7] == "22375"
        assert perform(move_expiry, MoveJitExpiry(NAME, 1000, 22375)).changes == ()
        with pytest.raises(CommitError, match="there is no account nobody-here"):
            perform(move_expiry, MoveJitExpiry("nobody-here", 1000, 1))

    apart(body)


@pytest.mark.parametrize("name", ["", "-r", "a:b", "../x", "ünser", "two words", "x" * 33])
def test_no_name_that_is_none_is_looked_for(name: str) -> None:
    with pytest.raises(CommitError, match="not a user name"):
        perform(remove_account, replace(REMOVE, user_name=name))


def test_the_sudoers_line_goes_and_the_file_with_the_last_one() -> None:
    def body() -> None:
        path = Path("/etc/sudoers.d/waagent")
        withdraw = WithdrawSudo(NAME, "/etc/sudoers.d")
        perform(sudoers.grant_sudo, SUDO)
        assert path.stat().st_mode & 0o777 == 0o440
        assert perform(sudoers.withdraw_sudo, withdraw).fact == f"sudoers line of {NAME} removed"
        assert not path.exists()
        assert perform(sudoers.withdraw_sudo, withdraw).changes == ()
        perform(sudoers.grant_sudo, replace(SUDO, user_name="visitor2"))
        perform(sudoers.grant_sudo, SUDO)
        perform(sudoers.withdraw_sudo, withdraw)
        assert path.read_text() == "visitor2 ALL=(ALL) ALL\n"
        assert path.stat().st_mode & 0o777 == 0o440

    apart(body)
