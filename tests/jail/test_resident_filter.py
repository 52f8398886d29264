# SPDX-License-Identifier: Apache-2.0
"""The supervisor's own filter, as compiled: what it could do without it is refused, and the live one is under it."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from policy.load import load
from supervisor.audit_log import AuditLog, Bounds, Surroundings
from supervisor.audit_log_entry import Entry
from supervisor.clock import SystemClock
from supervisor.jail import capabilities, mounts, namespaces, seccomp, syscalls
from supervisor.journal import Journal
from tests.fabric.waiting import until
from tests.jail.forked import attempt, in_child
from tests.jail.live_supervisor import looked_at

pytestmark = pytest.mark.root
OWN = next(compiled for compiled in load().programs if compiled.profile.kind == "supervisor")


def run_a_program() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            os.execv("/bin/true", ["true"])
        except OSError as error:
            os._exit(error.errno or 255)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(status, os.strerror(status))


ACTS: dict[str, Callable[[], object]] = {
    "runs a program": run_a_program,
    "makes a user namespace": lambda: syscalls.unshare(namespaces.NEWUSER),
    "mounts": lambda: syscalls.mount("tmpfs", "/proc", "tmpfs", 0),
    "talks netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
}


def outcome(act: Callable[[], object], *filters: bytes) -> object:
    def confined() -> int:
        namespaces.leave(["mount"])
        mounts.make_private()
        capabilities.no_new_privileges()
        for program in filters:
            seccomp.load(program)
        return attempt(act)

    return in_child(confined).value


@pytest.mark.parametrize("act", ACTS)
def test_what_its_work_does_not_need_is_refused(act: str) -> None:
    assert outcome(ACTS[act]) == 0
    assert outcome(ACTS[act], OWN.startup_filter, OWN.locked_filter) == errno.ENOSYS


def test_its_audit_log_and_its_journal_go_on_in_new_files(tmp_path: Path) -> None:
    log = AuditLog(f"{tmp_path}/audit.log", Surroundings(SystemClock(), "boot"), Bounds(file_bytes=1))
    log(Entry("agent-start"))
    journal = Journal(f"{tmp_path}/journal")

    def act() -> None:
        journal.compact()
        log(Entry("agent-stop"))

    assert outcome(act, OWN.startup_filter, OWN.locked_filter) == 0
    assert len(list(tmp_path.glob("audit.log-*"))) == 1
    assert b"agent-stop" in (tmp_path / "audit.log").read_bytes()


def test_the_live_supervisor_is_under_both_on_every_thread_and_under_the_spawners() -> None:
    with looked_at() as values:
        # Two while it starts, three once it is locked: until then no byte from outside is read.
        assert until("its second filter, on every thread", lambda: values("Seccomp_filters") == {"3"})
