# SPDX-License-Identifier: Apache-2.0
"""The agent as a service: stopped in the act, started twice, its supervisor killed; and the sshd beside it."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fabric.lab import send_signal
from tests.fabric.scene import AGENT, KEY, Wanted, kill_process
from tests.fabric.vm import Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

EXIT_CONFIG = 78
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
SSHD, SSHD_PID, HEARD = "/run/fabric/sshd", "/run/sshd.pid", "/run/fabric/heard"
# Its name is the file's, as sshd's is; what it would read at that moment it writes down.
STAND_IN = f"""#!{sys.executable} -I
import os, pathlib, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
pathlib.Path("{SSHD_PID}").write_text(str(os.getpid()))
while signal.sigwait([signal.SIGHUP]):
    with open("{HEARD}", "ab") as heard:
        heard.write(pathlib.Path("{HOST_KEY}").read_bytes())
"""


def held_at_work(vm: Vm, kind: str, tool: str) -> list[int]:
    """The worker of that kind, its companion, and the tool that it has just started, if one is named, stopped."""

    def stopped() -> list[int]:
        workers = vm.scene.workers()
        pids = [pid for name in (f"{kind}.0", f"{kind}-programs.0") for pid in workers.get(name, [])]
        if tool and tool not in map(name_of, pids):
            return []
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        return pids

    return until(f"{kind} at work", stopped, every_s=0.0005)


def name_of(pid: int) -> str:
    """What the kernel calls it; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def resume(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def stop_while_held(vm: Vm, held: list[int]) -> None:
    """Have the service stop while `held` stands still, then let that go on; the agent ends well and leaves nothing."""
    send_signal(vm.agent, signal.SIGTERM)
    until("it stops", lambda: "supervisor stopping" in vm.scene.log())
    resume(held)
    assert vm.agent.wait(timeout=10) == 0
    assert vm.left_over() == []


def expect_no_failure(vm: Vm) -> None:
    """Being stopped is none: not in the log, nor for the host."""
    assert "provisioning interrupted: the service is stopping" in vm.scene.log()
    assert "provisioning failed:" not in vm.scene.log()
    assert "ProvisioningFailed" not in [report.health.sub_status for report in vm.scene.reports()]


def start_stand_in(vm: Vm, path: str) -> None:
    vm.lab.write(path, STAND_IN.encode())
    vm.lab.output("chmod", "0755", path)
    vm.lab.popen([path], cgroup="fabric")
    until("it runs", lambda: vm.lab.run(["test", "-s", SSHD_PID]).returncode == 0)


def test_a_committer_that_works_when_the_service_stops_comes_to_its_end() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        account = held_at_work(vm, "account", "useradd")
        stop_while_held(vm, account)
        log = vm.scene.log()
        assert ("account: done" in log, "Traceback" in log, log.count("supervisor stopping")) == (True, False, 1)
        # Whole as it is, and nothing was begun after it; nor does the host hear of a failure that is none.
        for name in ("passwd", "shadow", "group", "gshadow"):
            assert vm.lab.run(["getent", name, vm.wanted.user]).returncode == 0, name
        assert vm.lab.run(["test", "-d", f"/home/{vm.wanted.user}"]).returncode == 0
        assert "password: done" not in log
        expect_no_failure(vm)
        vm.boot(None)
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []
        assert vm.scene.log().count("account: done") == 1


def test_one_that_has_not_begun_does_not_begin() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        account = held_at_work(vm, "account", "")
        stop_while_held(vm, account)
        assert vm.lab.run(["getent", "passwd", vm.wanted.user]).returncode != 0
        expect_no_failure(vm)


def test_of_two_agents_the_second_ends_and_the_first_goes_on() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        residents = vm.residents()
        second = vm.lab.run([str(AGENT), "run"], cgroup="second", timeout_s=10)
        assert second.returncode == EXIT_CONFIG
        first = vm.ps().processes[0].pid
        assert f"another agent is running, process {first}" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        vm.scene.wait_until_ready()
        assert (vm.mistakes(), vm.settled()[0]) == ([], residents[0])


def test_ps_tells_of_the_supervisors_earlier_life() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        _, supervisor = vm.settled()
        # So that there is an age to tell them by.
        until("a second", lambda: vm.ps().processes[0].since_s > 1)
        assert kill_process(supervisor)
        until("the next one", lambda: (now := vm.ps_or_none()) is not None and now.processes[1].restarts == 1)
        spawner, supervisor_row = vm.ps().processes[:2]
        assert (supervisor_row.name, supervisor_row.last_exit) == ("supervisor", "was killed")
        assert (spawner.name, spawner.restarts, spawner.last_exit) == ("spawner", 0, "")
        assert spawner.since_s > supervisor_row.since_s + 0.5
        assert vm.ps().overview.counters.restarts == 1


def test_a_running_sshd_is_told_once_the_keys_are_in_place() -> None:
    with booted() as vm:
        start_stand_in(vm, SSHD)
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        pid = vm.lab.read(SSHD_PID).decode()
        assert f"sshd, process {pid}, reads its keys and settings anew" in vm.scene.log()
        assert until("what it heard", lambda: vm.lab.read(HEARD)) == vm.lab.read(HOST_KEY)
        assert vm.mistakes() == []


def test_nobody_is_told_who_is_no_sshd() -> None:
    """A program of that name runs, but the number is another's."""
    with booted() as vm:
        start_stand_in(vm, f"{SSHD}-not")
        vm.lab.output("cp", "/usr/bin/sleep", SSHD)
        vm.lab.popen([SSHD, "100"])
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert "which is no sshd: nobody was signalled" in vm.scene.log()
        assert vm.lab.run(["test", "-e", HEARD]).returncode != 0


@pytest.mark.parametrize("password", [None, "Correct-Horse-7-Battery"], ids=["by key", "by password"])
def test_a_daemons_account_is_refused_and_nothing_is_changed(password: str | None) -> None:
    wanted = Wanted(user="www-data", password=password, keys=(KEY,), disable_password=password is None)
    with booted(wanted) as vm:
        vm.boot(wanted.medium())
        assert vm.wait_until_decided().startswith("NotReady ProvisioningFailed")
        assert vm.applied() == []
        assert "www-data" in vm.scene.log()
