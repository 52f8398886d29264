# SPDX-License-Identifier: Apache-2.0
"""Who is refused, or with mode observe would be, is told: in the log, in the audit log, and in a number."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from supervisor.layout import Layout
from tests.egress.test_watch import running
from tests.fabric.vm import QUICK, Vm
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

HOLDS = """
import socket, sys
made = socket.socket()
try:
    made.connect(("168.63.129.16", 80))
except OSError as error:
    print(error.strerror, flush=True)
else:
    print("connected", flush=True)
sys.stdin.readline()
"""


@contextmanager
def outsider(vm: Vm, uid: int = 0) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A process that tries to connect and then keeps what it has; what it said, and the process."""
    become = ["setpriv", f"--reuid={uid}", "--clear-groups"] if uid else []
    command = [*become, "/usr/bin/python3", "-c", HOLDS]
    process = vm.lab.popen(command, cgroup="other", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().decode().strip(), process
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@contextmanager
def hearing(config: bytes = QUICK) -> Iterator[Vm]:
    """A VM whose supervisor, the fresh one, has the kernel's log open."""
    with running(config) as vm:
        until("the log is open", lambda: "RefusalsHeard" in records(vm).rpartition("agent-start")[2])
        until("its committer is gone", lambda: not vm.scene.workers())
        yield vm


def records(vm: Vm) -> str:
    return vm.lab.path(Layout().audit_log).read_text()


def refusals(vm: Vm) -> list[str]:
    lines = map(json.loads, records(vm).splitlines())
    return [record["detail"] for record in lines if record["event"] == "refusal"]


def test_whoever_would_be_refused_is_named_by_process() -> None:
    with hearing(QUICK + b"Firewall.Mode=observe\n") as vm:
        program = vm.lab.output("readlink", "-f", "/usr/bin/python3").strip()
        with outsider(vm, uid=1) as (said, _):
            assert said == "connected"
            until("it is named", lambda: refusals(vm))
        (record,) = refusals(vm)
        assert record.startswith(f"{program} (uid 1, /")
        assert record.endswith("/other) to port 80 would be refused, and was let through")
        assert record in vm.scene.log()
        assert vm.ps().overview.egress.refused == 1
        with ExitStack() as held:
            for uid in (1, 2, 3, 4):
                held.enter_context(outsider(vm, uid=uid))
            until("all are named", lambda: {"2", "3", "4"} <= set(named(vm)))
        assert sorted(named(vm)) == ["1", "2", "3", "4"]
        assert vm.ps().overview.egress.refused == 5


def named(vm: Vm) -> list[str]:
    """The uids of those that were named by their program."""
    return [text.partition("(uid ")[2].partition(",")[0] for text in refusals(vm)]


def test_whoever_is_refused_is_counted_and_told_by_uid() -> None:
    with hearing() as vm:
        for uid in (0, 1):
            with outsider(vm, uid=uid) as (said, _):
                assert said == "Connection refused"
            told = f"a process of uid {uid} to port 80 was refused"
            until("it is told", partial(_is_told, vm, told))
        assert "uid 1 to port 80 was refused" in vm.scene.log()
        assert vm.ps().overview.egress.refused == 2


def _is_told(vm: Vm, what: str) -> bool:
    return what in refusals(vm)
