# SPDX-License-Identifier: Apache-2.0
"""The account and password committers against the real useradd and chpasswd, over a private copy of /etc."""

import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from ipc.errors import CommitError
from ipc.messages import CommitAccount, CommitPassword
from ipc.secret import Secret
from tests.unit.committers.apart import apart
from tests.unit.committers.programs_here import FOLDERS, perform, tools_in
from workers.committers import account_files as files
from workers.committers.account import make_account
from workers.committers.account_tools import run_past_locks
from workers.committers.password import set_password

pytestmark = pytest.mark.root

ROOT = Path("/")
REQUEST = CommitAccount("azureuser", "/home/azureuser", 1000)
HASH = "$6$abcdefghij$" + "x" * 86


def only_new_account(before: files.Snapshot) -> None:
    added = files.added_lines(before, files.read(ROOT), "azureuser")
    assert {"/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"} <= set(added)


def home_is_whole() -> None:
    home = Path("/home/azureuser")
    account = files.entry(files.read(ROOT), files.PASSWD, "azureuser")
    assert account is not None
    assert sorted(path.name for path in home.iterdir()) == sorted(path.name for path in Path("/etc/skel").iterdir())
    for path in (home, *home.iterdir()):
        assert str(path.lstat().st_uid) == account[2], path
        assert str(path.lstat().st_gid) == account[3], path
    assert [path.name for path in Path("/home").iterdir()] == ["azureuser"]


def test_a_new_account_is_one_line_in_each_file_and_a_home() -> None:
    def body() -> None:
        before = files.read(ROOT)
        committed = perform(make_account, REQUEST)
        only_new_account(before)
        home_is_whole()
        changes = {change.path: change for change in committed.changes}
        assert {"/etc/passwd", "/etc/shadow", "/etc/group", "/home/azureuser"} <= set(changes)
        assert changes["/home/azureuser"].uid >= 1000
        assert changes["/etc/shadow"].mode == stat.S_IMODE(Path("/etc/shadow").stat().st_mode)
        assert perform(make_account, REQUEST).changes == ()

    apart(body)


@pytest.mark.parametrize(
    ("files_cut", "home_gone"),
    [
        ((), True),
        (("/etc/gshadow", "/etc/group", "/etc/shadow"), True),
        (("/etc/gshadow", "/etc/group"), True),
        (("/etc/shadow",), False),
    ],
)
def test_a_half_made_account_is_finished(files_cut: tuple[str, ...], home_gone: bool) -> None:
    def body() -> None:
        before = files.read(ROOT)
        perform(make_account, REQUEST)
        for path in map(Path, files_cut):
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if not line.startswith("azureuser:")))
        if home_gone:
            shutil.move("/home/azureuser", "/home/.azureuser.agent-supervisor")
        perform(make_account, REQUEST)
        only_new_account(before)
        home_is_whole()

    apart(body)


def test_killed_anywhere_the_next_run_makes_it_whole() -> None:
    def body() -> None:
        before = files.read(ROOT)
        for delay_ms in range(0, 60, 5):
            kill_after(delay_ms / 1000)
        perform(make_account, REQUEST)
        only_new_account(before)
        home_is_whole()

    apart(body)


def kill_after(delay_s: float) -> None:
    """Run the commit in a process of its own, and end it and the tool it runs after `delay_s`."""
    child = os.fork()
    if child == 0:
        try:
            perform(make_account, REQUEST)
        finally:
            os._exit(0)
    deadline = time.monotonic() + delay_s
    pidfd = os.pidfd_open(child)
    while time.monotonic() < deadline and os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        os.sched_yield()
    os.close(pidfd)
    os.kill(child, signal.SIGSTOP)
    tools = [int(pid) for pid in Path(f"/proc/{child}/task/{child}/children").read_text().split()]
    for pid in (*tools, child):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("line", "file", "words"),
    [
        ("azureuser:x:33:33::/home/azureuser:/bin/sh", "/etc/passwd", "uid 33"),
        ("azureuser:x:4000:4000::/srv/elsewhere:/bin/sh", "/etc/passwd", "/srv/elsewhere"),
        ("azureuser:x:4000:0::/home/azureuser:/bin/sh", "/etc/passwd", "primary group root"),
        ("azureuser:x:4000:someone", "/etc/group", "a group azureuser exists"),
    ],
)
def test_what_stands_under_that_name_already_is_left_alone(line: str, file: str, words: str) -> None:
    def body() -> None:
        with Path(file).open("a") as stream:
            stream.write(f"{line}\n")
        before = files.read(ROOT)
        with pytest.raises(CommitError, match=words) as failure:
            perform(make_account, REQUEST)
        assert not failure.value.changed
        assert files.read(ROOT) == before
        assert not list(Path("/home").iterdir())

    apart(body)


JIT = CommitAccount("azureuser", "/home/azureuser", 1000, "JIT_Account", "2031-04-05")
JIT_DAY = "22374"


def test_comment_and_day_of_expiry_are_set_once() -> None:
    def body() -> None:
        perform(make_account, JIT)
        now = files.read(ROOT)
        assert (files.entry(now, files.PASSWD, "azureuser") or [])[4] == "JIT_Account"
        assert (files.entry(now, files.SHADOW, "azureuser") or [])[7] == JIT_DAY
        said = subprocess.run(["chage", "-l", "azureuser"], check=True, capture_output=True, text=True).stdout
        assert "Apr 05, 2031" in said
        assert perform(make_account, JIT).changes == ()
        with pytest.raises(CommitError, match=f"expires on day {JIT_DAY} of /etc/shadow, not on day 22375"):
            perform(make_account, replace(JIT, expires="2031-04-06"))
        with pytest.raises(CommitError, match="has another comment than Other"):
            perform(make_account, replace(JIT, comment="Other"))
        # Killed between passwd and shadow: the day is still to come.
        shadow = Path("/etc/shadow")
        lines = shadow.read_text().splitlines(keepends=True)
        shadow.write_text("".join(line for line in lines if not line.startswith("azureuser:")))
        perform(make_account, JIT)
        assert (files.entry(files.read(ROOT), files.SHADOW, "azureuser") or [])[7] == JIT_DAY

    apart(body)


def test_an_account_that_will_go_again_gets_no_home_that_was_there() -> None:
    def body() -> None:
        before = files.read(ROOT)
        Path("/home/azureuser").mkdir()
        with pytest.raises(CommitError, match="/home/azureuser is there already") as failure:
            perform(make_account, JIT)
        assert not failure.value.changed
        assert files.read(ROOT) == before

    apart(body)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"comment": "a:b"}, "the comment is not one line without a colon"),
        ({"comment": "a\nb"}, "the comment is not one line without a colon"),
        ({"expires": "2031-02-30"}, "no date from 1970-01-01 on"),
        ({"expires": "20310405"}, "no date from 1970-01-01 on"),
        ({"expires": "1969-12-31"}, "no date from 1970-01-01 on"),
        ({"expires": "tomorrow"}, "no date from 1970-01-01 on"),
    ],
)
def test_a_comment_or_day_that_is_none_reaches_no_tool(change: dict[str, str], words: str) -> None:
    with pytest.raises(CommitError, match=words) as failure:
        perform(make_account, replace(REQUEST, **change), tools=tools_in(()))
    assert not failure.value.changed


@pytest.mark.parametrize("name", ["a", "_", "x" * 32, "UserName", "first.last", "a-", "a_1"])
def test_names_at_the_limits_are_made(name: str) -> None:
    def body() -> None:
        perform(make_account, CommitAccount(name, f"/home/{name}", 1000))
        perform(set_password, CommitPassword(name, Secret(HASH)))
        assert Path(f"/home/{name}").owner() == name

    apart(body)


@pytest.mark.parametrize("kind", ["mounted", "made", "half filled"])
def test_an_empty_home_of_roots_becomes_the_accounts(kind: str) -> None:
    """As a file system of its own would be, prepared in the image and mounted by it."""

    def body() -> None:
        home = Path("/home/azureuser")
        home.mkdir(mode=0o755)
        if kind == "mounted":
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(home)], check=True)
            (home / "lost+found").mkdir(mode=0o700)
        if kind == "half filled":
            (home / ".bashrc").write_text("hal")
        assert [change.path for change in perform(make_account, REQUEST).changes if "home" in change.path] == [
            str(home)
        ]
        (home / "lost+found").rmdir() if kind == "mounted" else None
        home_is_whole()
        assert (home / ".bashrc").read_bytes() == Path("/etc/skel/.bashrc").read_bytes()
        assert perform(make_account, REQUEST).changes == ()

    apart(body)


def test_an_images_own_account_gets_the_home_that_it_lacks() -> None:
    def body() -> None:
        for path, line in (
            ("/etc/passwd", "azureuser:x:4000:50::/home/azureuser:/bin/sh"),
            ("/etc/shadow", "azureuser:!:1::::::"),
        ):
            Path(path).write_text(f"{Path(path).read_text()}{line}\n")
        perform(make_account, REQUEST)
        assert Path("/home/azureuser").stat().st_uid == 4000
        assert (files.entry(files.read(ROOT), files.PASSWD, "azureuser") or [])[3] == "50"

    apart(body)


def test_a_lock_that_another_program_holds_is_waited_for_then_told() -> None:
    def body() -> None:
        before = files.read(ROOT)
        script = "printf %s $$ >/etc/passwd.lock; echo held; read go; sleep 0.3; rm /etc/passwd.lock"
        pipe = subprocess.PIPE
        with subprocess.Popen(["sh", "-c", script], stdin=pipe, stdout=pipe) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(CommitError, match=f"stay locked by another program; .*process {other.pid} ") as failure:
                run_past_locks(tools_in(), "useradd", "--", "azureuser", patience_s=0)
            assert not failure.value.changed
            assert files.read(ROOT) == before
            other.stdin.write(b"go\n")
            other.stdin.flush()
            perform(make_account, REQUEST)
        only_new_account(before)

    apart(body)


def test_an_existing_home_keeps_its_content() -> None:
    def body() -> None:
        Path("/home/azureuser").mkdir()
        Path("/home/azureuser/data").write_text("keep")
        assert "belongs to another uid" in perform(make_account, REQUEST).fact
        assert [path.name for path in Path("/home/azureuser").iterdir()] == ["data"]

    apart(body)


def test_a_useradd_that_does_more_than_asked_is_found_out() -> None:
    def body() -> None:
        folder = Path("/home/bin")
        folder.mkdir()
        (folder / "useradd").write_text('#!/bin/sh\n/usr/sbin/useradd -G sudo "$@"\n')
        (folder / "useradd").chmod(0o755)
        with pytest.raises(CommitError, match="/etc/group changed otherwise") as failure:
            perform(make_account, REQUEST, tools=tools_in((str(folder), *FOLDERS)))
        assert failure.value.changed

    apart(body)


def test_a_useradd_that_fails_half_way_is_taken_back() -> None:
    def body() -> None:
        before = files.read(ROOT)
        folder = Path("/home/bin")
        folder.mkdir()
        (folder / "useradd").write_text('#!/bin/sh\n/usr/sbin/useradd "$@"\necho no space left >&2\nexit 1\n')
        (folder / "useradd").chmod(0o755)
        with pytest.raises(CommitError, match="status 1: no space left") as failure:
            perform(make_account, REQUEST, tools=tools_in((str(folder), *FOLDERS)))
        assert not failure.value.changed
        assert files.read(ROOT) == before

    apart(body)


def test_missing_and_slow_tools_are_told() -> None:
    def body() -> None:
        with pytest.raises(CommitError, match="useradd is not installed"):
            perform(make_account, REQUEST, tools=tools_in(("/home",)))
        slow = Path("/home/useradd")
        slow.write_text("#!/bin/sh\nsleep 60\n")
        slow.chmod(0o755)
        with pytest.raises(CommitError, match="killed: not finished after"):
            perform(make_account, REQUEST, tools=tools_in(("/home", *FOLDERS), patience_s=0.2))

    apart(body)


@pytest.mark.parametrize("name", ["-r", "a:b", "a/b", "ünser", "two words"])
def test_no_name_reaches_useradd_that_is_none(name: str) -> None:
    with pytest.raises(CommitError, match="not a user name"):
        perform(make_account, CommitAccount(name, "/home/x", 1000), tools=tools_in(()))


def test_a_password_changes_one_field_once() -> None:
    def body() -> None:
        perform(make_account, REQUEST)
        before = files.read(ROOT)
        request = CommitPassword("azureuser", Secret(HASH))
        committed = perform(set_password, request)
        after = files.read(ROOT)
        assert files.changed_files(before, after) == ("/etc/shadow",)
        assert (files.entry(after, files.SHADOW, "azureuser") or [])[1] == HASH
        assert [change.path for change in committed.changes] == ["/etc/shadow"]
        assert HASH not in committed.fact
        assert perform(set_password, request).changes == ()

    apart(body)


@pytest.mark.parametrize("name", ["nobody-here", "root\nazureuser", "a:b"])
def test_a_password_for_no_account_changes_nothing(name: str) -> None:
    def body() -> None:
        before = files.read(ROOT)
        with pytest.raises(CommitError) as failure:
            perform(set_password, CommitPassword(name, Secret(HASH)))
        assert not failure.value.changed
        assert files.read(ROOT) == before

    apart(body)


def test_a_hash_can_not_smuggle_a_second_line_in() -> None:
    with pytest.raises(CommitError, match="not a user name and a hash"):
        perform(set_password, CommitPassword("games", Secret(HASH + "\nroot:" + HASH)), tools=tools_in(()))
