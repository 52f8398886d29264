# SPDX-License-Identifier: Apache-2.0
"""What the supervisor gives up: capabilities and most of what it could write before its work, and most of what it could
read when provisioning is over. Each is tried for real, in a child that sheds as the supervisor does."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from policy.load import load
from policy.placeholders import LIB
from policy.profile import Compiled
from supervisor.jail import capabilities, landlock, mounts, namespaces, syscalls
from supervisor.jail.shedding import end_provisioning, lock_resident
from tests.fabric.waiting import until
from tests.jail.forked import attempt, in_child
from tests.jail.live_supervisor import looked_at

pytestmark = pytest.mark.root
OWN = next(compiled for compiled in load().programs if compiled.profile.kind == "supervisor")
NONE = "0" * 16


def shed(compiled: Compiled, *, over: bool) -> None:
    """As in the supervisor's life, in a throw-away view of /var and /run; `over`: provisioning is."""
    namespaces.leave(["mount", "net"])
    mounts.make_private()
    for folder in ("/var", "/run"):
        syscalls.mount("tmpfs", folder, "tmpfs", 0)
    for folder in ("/var/lib/agent-supervisor", "/var/lib/waagent", "/var/log", "/run/agent-supervisor", "/var/other"):
        Path(folder).mkdir(parents=True)
    capabilities.hold(compiled.profile.start_capability_names)
    capabilities.no_new_privileges()
    places = {LIB: ("/var/lib/waagent",)}
    lock_resident(compiled, places)
    if over:
        end_provisioning(compiled.profile, places)


def connects(port: int) -> Callable[[], object]:
    def act() -> None:
        with socket.socket() as client:
            client.connect(("127.0.0.1", port))

    return act


def reads(path: str) -> Callable[[], object]:
    return lambda: os.close(os.open(path, os.O_RDONLY))


def writes(path: str) -> Callable[[], object]:
    return lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


OWN_FOLDERS = ("/var/lib/agent-supervisor", "/var/lib/waagent", "/var/log", "/run/agent-supervisor")
ACTS: dict[str, Callable[[], object]] = {
    "reads the shadow file": reads("/etc/shadow"),
    "reads the process table": reads("/proc/1/status"),
    "writes elsewhere": writes("/var/other/file"),
    "writes to /etc": writes("/etc/agent-supervisor-was-here"),
    "gives a file away": lambda: os.chown("/var/log", 1, 1),
    "connects to another port": connects(22),
    "connects to the WireServer's port": connects(80),
} | {f"writes to {folder}": writes(f"{folder}/file") for folder in OWN_FOLDERS}
ALWAYS = {"reads the process table": 0, "connects to the WireServer's port": errno.ENETUNREACH} | {
    f"writes to {folder}": 0 for folder in OWN_FOLDERS
}
NEVER = {
    "writes elsewhere": errno.EACCES,
    "writes to /etc": errno.EACCES,
    "gives a file away": errno.ENOSYS,
    "connects to another port": errno.EACCES,
}


def outcomes(*, over: bool) -> dict[str, int]:
    def child() -> dict[str, int]:
        shed(OWN, over=over)
        return {name: attempt(act) for name, act in ACTS.items()}

    value: dict[str, int] = in_child(child).value
    return value


def test_while_it_provisions_it_reads_what_root_reads_and_writes_its_own_folders() -> None:
    assert landlock.version() >= 4
    assert outcomes(over=False) == ALWAYS | NEVER | {"reads the shadow file": 0}


def test_when_that_is_over_it_reads_little() -> None:
    assert outcomes(over=True) == ALWAYS | NEVER | {"reads the shadow file": errno.EACCES}


def test_without_shedding_all_of_it_is_possible() -> None:
    def child() -> dict[str, int]:
        namespaces.leave(["mount", "net"])
        mounts.make_private()
        for folder in ("/var", "/etc"):
            syscalls.mount("tmpfs", folder, "tmpfs", 0)
        for folder in ("/var/other", "/var/log"):
            Path(folder).mkdir()
        Path("/etc/shadow").touch()
        return {name: attempt(ACTS[name]) for name in (*NEVER, "reads the shadow file")}

    value = in_child(child).value
    assert value == dict.fromkeys([*NEVER, "reads the shadow file"], 0) | {
        "connects to another port": errno.ENETUNREACH
    }


def test_the_live_supervisor_holds_no_capability_on_any_thread() -> None:
    with looked_at() as values:
        assert until("that it has given up everything", lambda: values("Cap") == {NONE})
