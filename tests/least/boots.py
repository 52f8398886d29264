# SPDX-License-Identifier: Apache-2.0
"""Owns the boot that tries what the supervisor is granted: a whole provisioning, then a while of steady work.

Runs in the test. Everything that it does at all it does in such a boot, or its grant is not needed.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from supervisor.layout import Layout
from tests.fabric.lab import PROJECT, Lab, PlacedFile
from tests.fabric.scene import AGENT_LOG, Scene, Wanted, image_files
from tests.fabric.surroundings import Surroundings
from tests.fabric.vm import QUICK, Vm
from tests.fabric.waiting import WaitedInVain, until
from tests.jail.mutants import Mutation
from tests.jail.rigged import HOME
from tests.least import systemd_seen
from tests.least.resident import OVERRIDES
from tests.least.variants import Variants

PATIENCE_S = 8.0
CONSOLE = "/dev/console"
# The host is asked every second, not every six.
OFTEN = b"Extensions.GoalStatePeriod=1\n"
CONFIG = QUICK + OFTEN + b"Control.Group=adm\n"
ADM = 4
# One that tightens.
OVERRIDE = b'[parser]\nwhy = "Our machines need less than most."\nlimits.memory_mib = 100\n'
# What is said of the second goal state.
SECOND = "incarnation_2, the WireServer's, is in force"
# What no boot that goes well says.
TROUBLE = (" ERROR ", "starting it again", "giving up", "not started", "ended: ", "Error: ", "has no mount tree")


@dataclass
class VariedScene(Scene):
    """A scene whose agent runs under the policy in `policy`, a folder of the lab."""

    policy: str = ""
    mutations: tuple[Mutation, ...] = ()

    def start_agent(self, *options: str) -> subprocess.Popen[bytes]:
        """As the scene's, by way of resident.py."""
        mutations = json.dumps(self.mutations)
        command = [sys.executable, "-m", "tests.least.resident", self.policy, Layout().config, mutations, *options]
        with self.lab.path(AGENT_LOG).open("ab") as log:
            told = {"NOTIFY_SOCKET": systemd_seen.NOTIFY}
            return self.lab.popen(command, cgroup=self.agent_cgroup, cwd=str(PROJECT), env=told, stdout=log, stderr=log)


def failure(variants: Variants) -> str:
    """How a boot under these variants, which go by the kinds' own names, fails; empty when it does not."""
    image = image_files(CONFIG) | systemd_seen.IMAGE | {"/etc/skel/.config": PlacedFile(b"x")}
    with start_of(variants, image) as vm:
        systemd_seen.begin(vm.lab)
        try:
            _boot(vm)
            _steady(vm)
            status = vm.scene.stop_agent(vm.agent)
            assert status == 0, f"it ends with {status}"
            _expect_no_trouble(vm)
        except (AssertionError, WaitedInVain, OSError, subprocess.TimeoutExpired) as error:
            return _told(vm, error)
    return ""


def compiling_failure(variants: Variants) -> str:
    """How a start with an override fails, whose policy has to be made first; empty when it does not."""
    with start_of(variants, image_files(CONFIG) | {f"{OVERRIDES}/10-least.toml": OVERRIDE}) as vm:
        vm.boot(None)
        try:
            until(
                "a policy", lambda: "as shipped, with 10-least.toml" in vm.scene.log() or _is_in_trouble(vm), PATIENCE_S
            )
            _expect_no_trouble(vm)
            assert vm.agent.poll() is None, "it has ended"
        except (AssertionError, WaitedInVain) as error:
            return _told(vm, error)
    return ""


def _told(vm: Vm, error: Exception) -> str:
    """What the log says went wrong; else what was waited for."""
    return _trouble(vm) or " ".join(str(error).split()) or type(error).__name__


@contextmanager
def start_of(
    variants: Variants,
    image: dict[str, bytes | PlacedFile],
    mutations: tuple[Mutation, ...] = (),
    around: Surroundings | None = None,
) -> Iterator[Vm]:
    """A VM with that disk, its host up, with all that there may be around it, its agent still to be started."""
    supervisor = "tests.least.resident" if mutations else "supervisor.main"
    with Lab(image) as lab:
        lab.output("mkdir", "-p", HOME, "/run/fabric")
        # A console that keeps what it is told.
        lab.path(CONSOLE).write_bytes(b"")
        scene = VariedScene(lab, policy=variants.place(lab, "variant", supervisor), mutations=mutations)
        if around is None:
            scene.start_host()
        else:
            around.start_host(scene)
        yield Vm(scene, Wanted())


def _boot(vm: Vm) -> None:
    vm.boot(vm.wanted.medium())
    until("Ready", lambda: vm.scene.is_ready() or _is_in_trouble(vm), PATIENCE_S)
    _expect_no_trouble(vm)
    mistakes = vm.mistakes()
    assert mistakes == [], mistakes
    until("its end", lambda: vm.story() == "done" or _is_in_trouble(vm), PATIENCE_S)
    until("the transport key", lambda: "transport key made" in vm.scene.log() or _is_in_trouble(vm), PATIENCE_S)
    assert b"ssh-ed25519" in vm.lab.path(CONSOLE).read_bytes()
    systemd_seen.expect_told(vm.lab)


def _steady(vm: Vm) -> None:
    until("the goal state", lambda: asks_again(vm) or _is_in_trouble(vm), PATIENCE_S)
    log = vm.lab.path(Layout().log)
    log.rename(log.with_suffix(".1"))
    vm.scene.steer("publish")
    until("the next goal state", lambda: SECOND in vm.scene.log() or _is_in_trouble(vm), PATIENCE_S)
    assert SECOND in log.read_text(), "the log goes on in the old file after a rotation"
    socket = vm.lab.path(Layout().control_socket).stat()
    assert socket.st_gid == ADM, f"the control socket belongs to group {socket.st_gid}"
    assert vm.ps().overview.provisioning == "done"


def asks_again(vm: Vm) -> bool:
    """Whether the process that goes on after the provisioning has the goal state, and has asked a second time."""
    log = vm.scene.log()
    asked = [record["monotonic"] for record in vm.scene.records() if record["route"] == "goalstate"]
    ready = [report.monotonic for report in vm.scene.reports() if report.health.state == "Ready"]
    later = [moment for moment in asked if ready and float(str(moment)) > ready[0]]
    changes_hands = "provisions this VM" in log
    return ("a fresh process goes on" in log or not changes_hands) and len(later) > 1


def _is_in_trouble(vm: Vm) -> bool:
    return bool(_trouble(vm)) or vm.agent.poll() is not None


def _trouble(vm: Vm) -> str:
    lines = vm.scene.log().splitlines()
    return next((line for line in lines if any(word in line for word in TROUBLE)), "")


def _expect_no_trouble(vm: Vm) -> None:
    trouble = _trouble(vm)
    assert not trouble, trouble
