# SPDX-License-Identifier: Apache-2.0
"""`agent-supervisor ps` at every moment of an agent's life, for whoever may ask and whoever may not."""

import json
import os
import pathlib
import signal
import time

import pytest

from supervisor.status import ProcessRow
from tests.fabric.lab import Lab
from tests.fabric.scene import AGENT, kill_process
from tests.fabric.vm import PS_WITHIN_S, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

# The command as an ordinary user has it, wherever this clone lies: loaded first, then without any privilege.
NOBODY = """
import os, sys
from supervisor.cli.main import main
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(main(["ps"]))
"""
# The spawner's one, and the worker's two.
FILTERS = 3


def worker_pid(vm: Vm, kind: str) -> int:
    """The worker of that kind, as the host numbers it, as soon as there is one."""

    def found() -> int:
        return next((pids[0] for name, pids in vm.scene.workers().items() if pids and name == f"{kind}.0"), 0)

    return until(f"{kind} at work", found, every_s=0.0005)


def row(vm: Vm, name: str) -> ProcessRow | None:
    """The row of that name, if there is one now."""
    return next((one for one in vm.ps().processes if one.name == name), None)


def test_while_a_worker_works_its_row_tells_its_privileges() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        pid = worker_pid(vm, "account")
        until("its final filter", lambda: int(_status(pid)["Seccomp_filters"]) == FILTERS, every_s=0.0005)
        os.kill(pid, signal.SIGSTOP)
        until("its row", lambda: (one := row(vm, "account.0")) is not None and one.pid and one.uid == 0)
        shown = json.loads(vm.ps_command("--json"))
        os.kill(pid, signal.SIGCONT)
        assert shown["overview"]["phase"] == "provisioning"
        assert shown["overview"]["provisioning"] == "account"
        one = next(found for found in shown["processes"] if found["name"] == "account.0")
        assert (one["kind"], one["filters"], one["restarts"]) == ("account", FILTERS, 0)
        assert one["cgroup"].endswith("/workers/account.0")
        assert 0 < len(one["capabilities"]) < 8
        assert one["rss_bytes"] > 0
        assert [found["name"] for found in shown["processes"]][:2] == ["spawner", "supervisor"]
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []


def _status(pid: int) -> dict[str, str]:
    with pathlib.Path(f"/proc/{pid}/status").open(encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def test_a_worker_that_is_killed_again_and_again_stays_in_sight() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        killed = 0

        def failed() -> bool:
            nonlocal killed
            pids = [pid for name, pids in vm.scene.workers().items() if name == "provisioning.0" for pid in pids]
            killed += sum(map(kill_process, pids))
            return vm.story().startswith("failed: ")

        until("the end of patience", failed, timeout_s=20, every_s=0.001)
        snapshot = vm.ps()
        one = next(found for found in snapshot.processes if found.kind == "provisioning")
        assert (one.pid, one.last_exit) == (0, "was killed")
        assert 4 <= one.restarts <= killed
        assert snapshot.overview.counters.restarts == one.restarts
        assert snapshot.overview.counters.violations == 0
        assert "provisioning: last exit: was killed" in vm.ps_command()
        assert vm.wait_until_decided().startswith("NotReady ProvisioningFailed")
        assert vm.slowest_ps_s < PS_WITHIN_S
        assert vm.applied() == []


def test_at_idle_two_processes_are_left() -> None:
    with booted() as vm:
        began = time.time()
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        vm.settled()
        until("the goal state", lambda: vm.ps().overview.contact.goal_state)
        until("steady", lambda: len(vm.ps().processes) == 2, timeout_s=20)
        snapshot = vm.ps()
        spawner, supervisor = snapshot.processes
        assert (spawner.name, supervisor.name) == ("spawner", "supervisor")
        assert {spawner.pid, supervisor.pid} == {p.pid for p in vm.lab.processes()} - vm.before
        assert (snapshot.overview.phase, snapshot.overview.provisioning) == ("steady", "done")
        assert snapshot.overview.incarnation == "1"
        assert (snapshot.overview.counters.restarts, snapshot.overview.counters.violations) == (0, 0)
        assert began - 1 <= snapshot.overview.started <= time.time()
        table = vm.ps_command()
        assert "phase steady" in table
        assert "confinement: " in table
        assert "restarts 0, violations 0" in table


def asked(lab: Lab, *command: str) -> tuple[int, str]:
    """Exit status and complaint of `ps`."""
    done = lab.run(command or [str(AGENT), "ps"])
    return done.returncode, done.stderr.strip()


def test_who_may_not_ask_and_whom_nobody_answers() -> None:
    with booted() as vm:
        not_running = (3, "agent-supervisor: the agent is not running; journalctl -u agent-supervisor may tell why")
        assert asked(vm.lab) == not_running
        vm.boot(None)
        vm.residents()
        status, complaint = asked(vm.lab, str(AGENT.with_name("python")), "-c", NOBODY)
        assert status == 4
        assert complaint.startswith("agent-supervisor: no permission to ask the agent")
        assert asked(vm.lab)[0] == 0
        vm.scene.stop_agent(vm.agent)
        assert asked(vm.lab) == not_running
