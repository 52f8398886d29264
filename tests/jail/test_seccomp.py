# SPDX-License-Identifier: Apache-2.0
"""System-call filters: calls off the list end the process or are answered, on every thread, in any disguise."""

import ctypes
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ipc.errors import ConfinementError
from policy.groups import Only
from supervisor.jail import capabilities, seccomp
from tests.jail.forked import End, attempt, in_child, until
from tests.jail.profiles import PLENTY, WHY, filter_of

pytestmark = pytest.mark.root
THREAD_ONLY = Only("clone", 0, (0x10000,), WHY, 0x7E030000)
X32_BIT = 0x40000000


def under(program: bytes | None, act: Callable[[], object], all_threads: bool = False) -> End:
    def confined() -> object:
        if program is not None:
            capabilities.no_new_privileges()
            seccomp.load(program, all_threads)
        return act()

    return in_child(confined)


def test_a_call_off_the_list_ends_the_process() -> None:
    assert under(None, os.uname).status == 0
    assert under(filter_of(PLENTY), os.getpid).status == 0
    assert under(filter_of(PLENTY), os.uname).signal == signal.SIGSYS


def test_a_call_may_be_answered_instead() -> None:
    assert under(filter_of(PLENTY, kill=False), lambda: attempt(Path("/x").mkdir)).value == errno.ENOSYS
    assert under(filter_of(PLENTY, enosys=frozenset({"uname"})), lambda: attempt(os.uname)).value == errno.ENOSYS


def test_arguments_are_judged() -> None:
    program = filter_of(PLENTY - {"socket"}, Only("socket", 0, (socket.AF_UNIX,), WHY))
    assert under(program, lambda: attempt(socket.socket(socket.AF_UNIX).close)).value == 0
    assert under(program, lambda: attempt(socket.socket(socket.AF_INET).close)).signal == signal.SIGSYS


def test_one_bit_decides_between_allow_and_answer() -> None:
    """Asking about an open descriptor is allowed, looking up a name is answered: the same call, told by one flag."""
    judged = (
        Only("newfstatat", 3, (0x1000,), WHY, 0x1000),
        Only("newfstatat", 3, (0,), WHY, 0x1000, "enosys"),
    )
    program = filter_of(PLENTY - {"newfstatat"}, *judged)
    end = under(program, lambda: [attempt(lambda: os.fstat(0)), attempt(Path("/").stat)])
    assert end.value == [0, errno.ENOSYS]


def test_threads_start_where_clone3_is_answered_and_processes_do_not() -> None:
    program = filter_of(PLENTY, THREAD_ONLY, enosys=frozenset({"clone3"}))

    def thread() -> str:
        done: list[str] = []
        other = threading.Thread(target=lambda: done.append("ran"))
        other.start()
        other.join()
        return done[0]

    assert under(program, thread).value == "ran"
    assert under(program, os.fork).signal == signal.SIGSYS


def test_the_other_calling_convention_is_no_way_round() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("x32 is x86_64's")
    libc = ctypes.CDLL(None)
    getpid_x32 = 39 | X32_BIT
    assert under(filter_of(PLENTY, kill=False), lambda: libc.syscall(getpid_x32)).signal == signal.SIGSYS
    assert under(None, lambda: libc.syscall(getpid_x32)).signal == 0


@pytest.mark.parametrize("all_threads", [True, False])
def test_a_thread_that_runs_already_is_caught_only_by_all_threads(all_threads: bool) -> None:
    def act() -> str:
        go, reached = threading.Event(), threading.Event()

        def other() -> None:
            go.wait()
            os.uname()
            reached.set()

        threading.Thread(target=other, daemon=True).start()
        capabilities.no_new_privileges()
        seccomp.load(filter_of(PLENTY), all_threads)
        go.set()
        return "went on" if until(reached.is_set) else "hangs"

    end = in_child(act)
    assert (end.value, end.signal) == ((None, signal.SIGSYS) if all_threads else ("went on", 0))


def test_filters_add_up() -> None:
    wider = filter_of(PLENTY | {"uname"})

    def act() -> None:
        seccomp.load(wider)
        os.uname()

    assert under(wider, act).status == 0
    assert under(filter_of(PLENTY), act).signal == signal.SIGSYS


def test_what_is_no_filter_is_refused() -> None:
    for program in (b"", b"1234567", bytes(8)):
        with pytest.raises(ConfinementError):
            seccomp.load(program)
