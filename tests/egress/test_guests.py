# SPDX-License-Identifier: Apache-2.0
"""Whoever provisions in this agent's place reaches the WireServer until that is done, and nobody else does."""

import subprocess
import sys

import pytest

from supervisor.egress.guests import SLICE
from tests.egress.attempt import PORTS
from tests.egress.yard import NOBODY
from tests.fabric import cloud_init
from tests.fabric.lab import PROJECT
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

# The scene's host has one port only.
REACHES, REFUSED = ["REACHED", "ConnectionRefusedError"], ["ConnectionRefusedError"] * len(PORTS)


def attempt(vm: Vm, cgroup: str, uid: int = 0) -> list[str]:
    """What came of it, by port."""
    become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
    command = [*become, sys.executable, "-m", "tests.egress.attempt", "once", "guest"]
    return vm.lab.run(command, cgroup=cgroup, cwd=str(PROJECT)).stdout.split()


def provisioned_by(agent: bytes) -> bytes:
    return QUICK.replace(b"Provisioning.Agent=waagent", b"Provisioning.Agent=" + agent)


def stay_in_slice(vm: Vm) -> subprocess.Popen[bytes]:
    """A process of whoever provisions, until its input ends."""
    return vm.lab.popen(["cat"], cgroup=SLICE, stdin=subprocess.PIPE)


def in_force(vm: Vm) -> bool:
    snapshot = vm.ps_or_none()
    return snapshot is not None and bool(snapshot.overview.egress.mechanism)


def finish_cloud_init(vm: Vm) -> None:
    cloud_init.leave_document(vm.lab, cloud_init.document(vm.wanted))
    cloud_init.make_host_keys(vm.lab, "ed25519")
    until("its end", lambda: vm.story() == "done, by cloud-init", 20)


def test_cloud_inits_cgroup_until_it_is_done() -> None:
    with booted(config=provisioned_by(b"auto")) as vm:
        cloud_init.enable(vm.lab)
        stays = stay_in_slice(vm)
        vm.boot(None)
        until("the rule", lambda: in_force(vm))
        assert "WireServer the supervisor's alone, and cloud-init's for now (nft-cgroup" in vm.ps_command()
        assert (attempt(vm, SLICE), attempt(vm, "other")) == (REACHES, REFUSED)
        finish_cloud_init(vm)
        until("nobody but the supervisor", lambda: not vm.ps().overview.egress.guests)
        # It goes on with what has nothing to do with the host.
        assert attempt(vm, SLICE) == REFUSED
        assert f"{SLICE} is let through until cloud-init is done" in vm.scene.log()
        stays.communicate(timeout=10)
        assert vm.readies() == 1


def test_of_a_cloud_init_without_our_units_all_that_root_runs_until_it_is_done() -> None:
    with booted(config=provisioned_by(b"auto")) as vm:
        cloud_init.enable(vm.lab)
        vm.boot(None)
        until("the rule", lambda: in_force(vm))
        assert vm.ps().overview.egress.mechanism == "nft-uid"
        assert (attempt(vm, "other"), attempt(vm, "other", NOBODY)) == (REACHES, REFUSED)
        assert "everything that root runs is let through until cloud-init is done" in vm.scene.log()
        finish_cloud_init(vm)
        until("nobody but the supervisor", lambda: vm.ps().overview.egress.mechanism == "nft-cgroup")
        assert attempt(vm, "other") == REFUSED


def test_others_as_long_as_their_cgroup_has_processes() -> None:
    with booted(config=provisioned_by(b"azure-init")) as vm:
        stays = stay_in_slice(vm)
        vm.boot(None)
        vm.scene.wait_until_ready()
        assert (attempt(vm, SLICE), attempt(vm, "other")) == (REACHES, REFUSED)
        stays.communicate(timeout=10)
        until("nobody but the supervisor", lambda: not vm.ps().overview.egress.guests)
        assert attempt(vm, SLICE) == REFUSED


def test_nobody_where_this_agent_provisions() -> None:
    with booted() as vm:
        stays = stay_in_slice(vm)
        vm.boot(vm.wanted.medium())
        until("the rule", lambda: in_force(vm))
        assert attempt(vm, SLICE) == REFUSED
        vm.scene.wait_until_ready()
        stays.communicate(timeout=10)
