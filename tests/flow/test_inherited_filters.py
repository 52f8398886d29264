# SPDX-License-Identifier: Apache-2.0
"""Started under somebody else's system-call filter, as in a container: workers are judged by what they add to it."""

import struct
import sys
from pathlib import Path

import pytest

from tests.fabric.lab import Lab
from tests.fabric.scene import AGENT, AGENT_LOG
from tests.fabric.vm import booted
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig, place_policy, policy_sources
from tests.kills import launcher

pytestmark = pytest.mark.root

ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
FILTER = "/run/fabric/filter"
# A filter of its own in the spawner, before it starts anybody; and a worker that leaves one of its two out.
INHERITED = Mutation(
    "supervisor.spawner.main",
    '    import_module("supervisor.spawner.single").take_the_place(Layout())\n',
    '    import_module("supervisor.spawner.single").take_the_place(Layout())\n'
    f"    __import__('supervisor.jail.seccomp').jail.seccomp.load({ALLOW_ALL!r})\n",
)
ONE_LESS = Mutation(
    "supervisor.jail.confine",
    "seccomp.load(child.compiled.startup_filter)",
    'seccomp.load(child.compiled.startup_filter) if child.compiled.profile.kind == "verifier" else None',
)


def test_the_vm_is_provisioned_under_an_inherited_filter() -> None:
    with booted() as vm:
        vm.scene.insert(vm.wanted.medium())
        vm.lab.path(FILTER).write_bytes(ALLOW_ALL)
        command = [sys.executable, "-I", "-S", str(Path(launcher.__file__)), FILTER, str(AGENT), "run"]
        with vm.lab.path(AGENT_LOG).open("ab") as log:
            vm.agents.append(vm.lab.popen(command, cgroup=vm.scene.agent_cgroup, stdout=log, stderr=log))
        assert vm.wait_until_decided() == "Ready"
        assert vm.mistakes() == []
        assert [process.filters for process in vm.ps().processes[:2]] == [2, 4]


def test_a_worker_with_one_filter_less_is_refused_all_the_same() -> None:
    with Lab() as lab, Rig(lab, place_policy(lab, "plain", policy_sources()), (INHERITED, ONE_LESS)) as rig:
        answer = rig.ask("start", kind="parser")
        assert answer["error"] == "WorkerViolation"
        assert "Seccomp_filters is '3', policy says '4'" in answer["text"]
