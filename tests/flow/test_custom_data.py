# SPDX-License-Identifier: Apache-2.0
"""Custom data run on a machine without systemd: once, as root, apart from us, whoever is killed meanwhile."""

import stat

import pytest

from tests.fabric.custom_data import CONFIG, ENDLESS, OUTPUT_WORD, STATUS, TELLING, WAITING, Told, go, sleepers
from tests.fabric.demo_kills import Unit
from tests.fabric.scene import Wanted, kill_process
from tests.fabric.vm import Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

KIND = "custom-data-here"
PATH = "/var/lib/waagent/CustomData"
OUTPUT = "/var/log/agent-supervisor-custom-data.log"
# Capability bits 0, 1, 3, 5, 6, 7: those of its policy.
CAPABILITIES = f"{0b11101011:016x}"


def lines(vm: Vm, text: str) -> list[str]:
    """What the log says of it."""
    return [line for line in vm.scene.log().splitlines() if text in line]


def test_it_runs_once_as_root_with_nothing_of_ours() -> None:
    with booted(Wanted(custom_data=TELLING), CONFIG) as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []
        told = Told(vm.lab)
        assert told.status("Uid") == told.status("Gid") == "0 0 0 0"
        assert told.status("CapEff") == told.status("CapBnd") == CAPABILITIES
        assert sorted(told["environment"].split()) == [
            "HOME=/root",
            "LANG=C.UTF-8",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "PWD=/",
        ]
        assert (told["folder"], told["umask"], told["folders"]) == ("/\n", "0022\n", "")
        assert told.descriptors() == {"/dev/null", PATH, OUTPUT}
        assert any(line.endswith(f"/workers/{KIND}-programs.0") for line in told["groups"].splitlines())
        # Before the step that locks it.
        assert not told["shadow"].startswith("root:*LOCK*")
        assert stat.S_IMODE(vm.lab.path(PATH).stat().st_mode) == 0o700
        assert stat.S_IMODE(vm.lab.path(OUTPUT).stat().st_mode) == 0o600
        (line,) = lines(vm, "custom data run: done")
        assert f"exit status {STATUS}, which is ignored" in line
        assert "a few capabilities only" in line
        assert vm.told(OUTPUT_WORD) == [OUTPUT]
        until("what it left running is gone", lambda: not sleepers(vm.lab))
        assert vm.scene.stop_agent(vm.agent) == 0
        vm.boot(None)
        until("another start", lambda: "done on an earlier start" in vm.story())
        assert told.count("runs") == 1


def test_it_is_ended_when_its_time_is_over() -> None:
    with booted(Wanted(custom_data=ENDLESS), CONFIG + b"Provisioning.CustomDataTimeout=1\n") as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert lines(vm, "still ran after 1 s (Provisioning.CustomDataTimeout)")
        until("all of it is gone", lambda: not sleepers(vm.lab))
        assert Told(vm.lab).count("runs") == 1


@pytest.mark.parametrize("victim", ["supervisor", "spawner", "committer", "companion"])
def test_whoever_is_killed_meanwhile_it_is_not_run_again(victim: str) -> None:
    with booted(Wanted(custom_data=WAITING), CONFIG) as vm:
        vm.scene.insert(vm.wanted.medium())
        unit = Unit(vm.scene)
        vm.agents.append(unit.agent)
        told = Told(vm.lab)
        until("it runs", lambda: told.count("shadow"))
        until("ps says so", lambda: "runs the custom data, for 3600 s at most" in vm.story())
        (row,) = [row for row in vm.ps().processes if row.kind == KIND]
        assert (row.state, row.since_s > 0) == ("working", True)
        spawner, supervisor = vm.residents()
        committer = min(vm.scene.workers()[f"{KIND}.0"])
        companion = min(vm.scene.workers()[f"{KIND}-programs.0"])
        victims = {"supervisor": supervisor, "spawner": spawner, "committer": committer, "companion": companion}
        assert kill_process(victims[victim])
        until("Ready", lambda: unit.keep_running() and vm.scene.is_settled(), 20)
        vm.agents.append(unit.agent)
        go(vm.lab)
        assert vm.mistakes() == []
        assert (told.count("runs"), told.count("ends")) == (1, 0)
        assert lines(vm, "not run again: it was interrupted")


def test_data_are_stored_and_not_run() -> None:
    content = b"\x7fELF\x02\x01\0\xff\xfe"
    with booted(Wanted(custom_data=content), CONFIG) as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert vm.lab.path(PATH).read_bytes() == content
        assert lines(vm, f"custom data is in {PATH} and is not run: it is binary")
        assert not lines(vm, "custom data run")


def test_what_can_not_be_started_does_not_fail_provisioning() -> None:
    with booted(Wanted(custom_data=b"#!/no/such/interpreter\n"), CONFIG) as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []
        assert lines(vm, "could not be run: ")
