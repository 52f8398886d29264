# SPDX-License-Identifier: Apache-2.0
"""The supervisor's own filter, as compiled: what it could do without it is refused, and the live one is under it."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from policy.load import load
from supervisor.jail import capabilities, mounts, namespaces, seccomp, syscalls
from tests.fabric.lab import Lab
from tests.fabric.scene import Scene, image_files, spawner_pid
from tests.fabric.waiting import until
from tests.jail.forked import attempt, in_child

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


def test_the_live_supervisor_is_under_both_on_every_thread() -> None:
    with Lab(files=image_files()) as lab:
        scene = Scene(lab)
        scene.start_host()
        agent = scene.start_agent()
        try:
            spawner = psutil.Process(spawner_pid(agent))

            def filters() -> set[str]:
                """Of every thread of the supervisor, how many it is under; empty while it is not there."""
                try:
                    pids = [child.pid for child in spawner.children() if "supervisor.main" in child.cmdline()]
                    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
                    lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
                except (psutil.Error, FileNotFoundError):
                    return set()
                return {line.split()[1] for line in lines if line.startswith("Seccomp_filters")}

            assert until("its second filter, on every thread", lambda: filters() == {"2"})
        finally:
            scene.stop_agent(agent)
