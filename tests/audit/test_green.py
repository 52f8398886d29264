# SPDX-License-Identifier: Apache-2.0
"""An agent as it is: nothing red, at rest and at work, shallow and in depth; and none the worse for being looked at."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from supervisor.audit.proc import threads
from supervisor.audit.ptrace import held as stopped
from tests.audit.auditing import audit, green, held
from tests.fabric.lab import PROJECT
from tests.fabric.scene import AGENT, Wanted
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

SCHEMA = json.loads((PROJECT / "docs/audit.schema.json").read_text())
OF_A_PROCESS = 17
# Of one thread of the spawner and three of the supervisor.
ROUNDS = 250
NOT_ASKED_FOR = {"secure-bits", "no-new-privileges", "landlock", "limits", "lifeline"}
# As an ordinary user has it.
NOBODY = """
import os, sys
from supervisor.cli.main import main
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(main(["audit"]))
"""


@pytest.fixture(scope="module")
def vm() -> Iterator[Vm]:
    """A provisioned VM."""
    with booted() as made:
        made.boot(made.wanted.medium())
        made.scene.wait_until_ready()
        made.settled()
        until("rest", lambda: made.ps().overview.incarnation and not made.scene.workers())
        yield made


def test_at_rest_everything_is_as_written_and_every_check_is_made(vm: Vm) -> None:
    report = green(vm.lab, "--deep")
    machine, spawner, supervisor = report.subjects
    assert [check.name for check in machine.checks] == ["processes", "policy", "state", "installation"]
    assert [spawner.name, supervisor.name] == ["spawner", "supervisor"]
    assert len(supervisor.checks) == len({check.name for check in supervisor.checks}) == OF_A_PROCESS
    assert {check.verdict for check in supervisor.checks} == {"ok"}
    assert {check.name for check in spawner.checks if check.verdict != "ok"} == NOT_ASKED_FOR
    assert supervisor.threads == 3


def test_without_depth_it_says_what_it_can_t_see(vm: Vm) -> None:
    report = green(vm.lab)
    supervisor = report.subjects[2]
    unseen = {check.name: check.note for check in supervisor.checks if check.verdict == "unseen"}
    assert set(unseen) == {"secure-bits", "landlock", "dumpable", "lifeline"}
    assert all("--deep" in note for note in unseen.values())
    assert "--deep" in vm.lab.output(str(AGENT), "audit").splitlines()[-1]


@pytest.mark.parametrize("options", [(), ("--deep",)])
def test_the_output_is_what_the_published_schema_says(vm: Vm, options: tuple[str, ...]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    shown = json.loads(vm.lab.output(str(AGENT), "audit", "--json", *options))
    jsonschema.validate(shown, SCHEMA, jsonschema.Draft202012Validator)
    for part, place in ((shown, SCHEMA), (shown["subjects"][1], SCHEMA["$defs"]["subject"])):
        assert set(part) == set(place["properties"])


def test_the_schema_would_notice(vm: Vm) -> None:
    shown = json.loads(vm.lab.output(str(AGENT), "audit", "--json"))
    shown["subjects"][1]["checks"][0]["verdict"] = "red"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(shown, SCHEMA, jsonschema.Draft202012Validator)


def test_who_is_not_root_is_told_so_and_a_machine_without_an_agent_too(vm: Vm) -> None:
    refused = vm.lab.run([str(AGENT.with_name("python")), "-c", NOBODY])
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "root" in refused.stderr
    assert "can't be seen" in refused.stderr
    lock = vm.lab.path("/run/agent-supervisor/lock")
    aside = lock.with_name("aside")
    lock.rename(aside)
    try:
        absent = vm.lab.run([str(AGENT), "audit"])
    finally:
        aside.rename(lock)
    assert (absent.returncode, absent.stderr) == (3, "agent-supervisor: the agent is not running\n")


def test_a_thousand_looks_inside_leave_both_residents_as_they_were(vm: Vm) -> None:
    residents = vm.residents()
    looks: list[list[tuple[str, int]]] = []

    def looked() -> bool:
        looks.append([_filters_and_descriptors(pid) for pid in residents])
        return len(looks) > 40

    until("some looks", looked)
    # At the moment of one look a request or a worker may be under way.
    before = [min(each) for each in zip(*looks, strict=True)]
    for _ in range(ROUNDS):
        for pid in residents:
            for tid in threads(pid):
                with stopped(tid) as thread:
                    assert thread.call("prctl", 3) == 0
    assert vm.residents() == residents
    until("nothing more is open", lambda: [_filters_and_descriptors(pid) for pid in residents] == before)
    requests = len(vm.scene.records())
    until("it asks the host again", lambda: len(vm.scene.records()) > requests, 15)
    assert vm.ps().overview.counters.restarts == 0
    assert vm.mistakes() == []


def _filters_and_descriptors(pid: int) -> tuple[str, int]:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["TracerPid"] == "0"
    return status["Seccomp_filters"], len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_at_work_too() -> None:
    """A worker with a view of its own and a channel of ZeroMQ's, a committer with its companion, one that is exec'd,
    and one with a companion that is not root."""
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        for kind in ("parser", "account", "vault"):
            with held(vm, kind):
                report = green(vm.lab, "--deep")
                assert f"{kind}.0" in {subject.name for subject in report.subjects}
                verdicts = {check.verdict for subject in report.subjects for check in subject.checks}
                assert verdicts == {"ok", "not-applied"}
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []
        vm.settled()
        # The opener is begun with the question, and waits for the host's answer.
        vm.scene.steer("fault certificates:delay=3")
        vm.scene.publish("certificates=rsa")
        with held(vm, "opener"):
            subjects = {subject.name: subject for subject in green(vm.lab, "--deep").subjects}
            checks = [check for name in ("opener.0", "opener-programs.0") for check in subjects[name].checks]
            assert {check.verdict for check in checks} == {"ok"}


def test_while_workers_come_and_go_nothing_is_red() -> None:
    """Whoever is on its way into its confinement is looked at again, not called red."""
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        vm.residents()
        seen = set()
        while not vm.scene.is_settled():
            status, report = audit(vm.lab)
            assert (status, [subject.red for subject in report.subjects if subject.red]) == (0, [])
            seen |= {subject.kind for subject in report.subjects}
        assert {"spawner", "supervisor"} < seen


def test_while_the_tenants_script_runs() -> None:
    """Its programs are the companion's, and held to the same policy."""
    script = b"#!/bin/sh\numask 022\nsleep 30\n"
    with booted(Wanted(custom_data=script), QUICK + b"Provisioning.ExecuteCustomData=y\n") as vm:
        vm.boot(vm.wanted.medium())
        until("the script", lambda: any(one.argv[:1] == ("sleep",) for one in vm.lab.processes()), 20)
        report = green(vm.lab, "--deep")
        names = [subject.name for subject in report.subjects]
        runner = "custom-data-here-programs.0"
        assert {"custom-data-here.0", runner, f"{runner}/CustomData", f"{runner}/sleep"} < set(names)
