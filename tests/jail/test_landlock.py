# SPDX-License-Identifier: Apache-2.0
"""Landlock: files, TCP, signals and abstract sockets beyond the profile fail with it and succeed without it."""

import errno
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from policy.profile import Namespaces, PathGrant, Profile
from supervisor.jail import capabilities as caps
from supervisor.jail import landlock
from tests.jail.forked import attempt, in_child, listed
from tests.jail.profiles import WHY, capabilities, grants, profile

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(landlock.version() < 6, reason="this kernel's Landlock is older than version 6"),
]
WITHOUT = profile()


def under(restriction: Profile | None, act: Callable[[], object]) -> object:
    def confined() -> object:
        if restriction is not None:
            caps.no_new_privileges()
            landlock.restrict(restriction)
        return act()

    return in_child(confined).value


def touch(path: Path) -> int:
    return attempt(lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)))


def test_files_are_what_the_paths_say(tmp_path: Path) -> None:
    for name in ("ro", "rw", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").write_text("x")

    def act() -> list[int]:
        return [
            attempt((tmp_path / "ro" / "old").read_bytes),
            touch(tmp_path / "ro" / "old"),
            touch(tmp_path / "rw" / "new"),
            attempt((tmp_path / "rw" / "new").unlink),
            attempt((tmp_path / "other" / "old").read_bytes),
            attempt(lambda: listed("/etc")),
        ]

    restriction = profile(paths=grants(ro=str(tmp_path / "ro"), rw=str(tmp_path / "rw")))
    assert under(None, act) == [0] * 6
    assert under(restriction, act) == [0, errno.EACCES, 0, 0, errno.EACCES, errno.EACCES]


def test_what_may_be_removed_may_be_listed_but_neither_read_nor_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "old").write_text("x")

    def act() -> list[int]:
        return [
            attempt(lambda: listed(str(tmp_path))),
            attempt((tmp_path / "old").read_bytes),
            touch(tmp_path / "old"),
            touch(tmp_path / "new"),
            attempt((tmp_path / "old").unlink),
            attempt((tmp_path / "folder").rmdir),
        ]

    restriction = profile(paths=grants(remove=str(tmp_path)))
    assert under(restriction, act) == [0, errno.EACCES, errno.EACCES, errno.EACCES, 0, 0]


def test_programs_start_only_from_executable_paths(tmp_path: Path) -> None:
    def act() -> int:
        pid = os.fork()
        if pid == 0:
            status = attempt(lambda: os.execv("/bin/true", ["true"]))
            os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert under(profile(paths=grants(rx="/")), act) == 0
    assert under(profile(paths=grants(rw="/")), act) == errno.EACCES


def test_tools_may_do_anything_but_make_devices(tmp_path: Path) -> None:
    def act() -> list[int]:
        return [
            attempt(lambda: os.mknod(tmp_path / "block", 0o60600, os.makedev(7, 0))),
            attempt(lambda: os.mknod(tmp_path / "char", 0o20600, os.makedev(1, 3))),
            attempt(lambda: os.mkfifo(tmp_path / "fifo")),
            attempt((tmp_path / "folder").mkdir),
            attempt(lambda: (tmp_path / "folder").rename(tmp_path / "renamed")),
        ]

    assert under(profile(paths=grants(tools=str(tmp_path))), act) == [errno.EACCES, errno.EACCES, 0, 0, 0]


def test_tcp_is_shut_where_the_network_is_the_own() -> None:
    def act() -> list[int]:
        listener = socket.socket()
        bound = attempt(lambda: listener.bind(("127.0.0.1", 0)))
        connected = attempt(lambda: socket.socket().connect(("127.0.0.1", 1)))
        return [bound, connected]

    assert under(None, act) == [0, errno.ECONNREFUSED]
    assert under(WITHOUT, act) == [errno.EACCES, errno.EACCES]
    on_the_hosts = profile(namespaces=Namespaces(new=(), why=WHY))
    assert under(on_the_hosts, act) == [0, errno.ECONNREFUSED]


def test_signals_stay_inside_unless_the_profile_has_kill() -> None:
    def act() -> int:
        return attempt(lambda: os.kill(os.getppid(), 0))

    assert under(None, act) == 0
    assert under(WITHOUT, act) == errno.EPERM
    assert under(profile(capabilities=capabilities("kill")), act) == 0


def test_abstract_sockets_of_others_are_out_of_reach() -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0agent-supervisor-test-{os.getpid()}")
    listener.listen(2)

    def act() -> int:
        return attempt(lambda: socket.socket(socket.AF_UNIX).connect(listener.getsockname()))

    assert under(None, act) == 0
    assert under(WITHOUT, act) == errno.EPERM
    listener.close()


def test_a_path_that_is_not_there_grants_nothing() -> None:
    restriction = profile(paths=(PathGrant(path="/nowhere/at/all", access="rw", why=WHY),))
    assert under(restriction, lambda: attempt(lambda: listed("/"))) == errno.EACCES


def test_who_inspects_others_gets_none() -> None:
    assert landlock.fits(WITHOUT)
    assert not landlock.fits(profile(capabilities=capabilities("sys_ptrace")))

    def act() -> int:
        return attempt(Path(f"/proc/{os.getppid()}/ns/net").readlink)

    assert under(None, act) == 0
    assert under(profile(paths=grants(ro="/proc")), act) == errno.EACCES


def test_sigkill_of_the_own_child_is_inside() -> None:
    def act() -> int:
        pid = os.fork()
        if pid == 0:
            signal.pause()
        os.kill(pid, signal.SIGKILL)
        return os.WTERMSIG(os.waitpid(pid, 0)[1])

    assert under(WITHOUT, act) == signal.SIGKILL
