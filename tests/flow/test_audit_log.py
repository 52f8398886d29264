# SPDX-License-Identifier: Apache-2.0
"""The audit log of a real agent: complete against what was seen from outside, whole after kills, on a full disk, and in
systemd's journal."""

import json
from collections import Counter
from typing import Any

import pytest

from supervisor.cli.client import ask
from supervisor.journal import replay
from supervisor.layout import Layout
from supervisor.verbs import RESTART
from tests.fabric.lab import PROJECT, Lab
from tests.fabric.scene import AGENT, Scene, Wanted, image_files, kill_process, supervisor_pid
from tests.fabric.systemd_lab import UNIT, SystemdLab
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

LOG, JOURNAL = Layout().audit_log, Layout().journal
Told = dict[str, Any]
# Asks from within the machine, as an administrator does: from outside nobody's process can be told.
ASKER = """
import sys
from supervisor.cli.client import ask
from supervisor.verbs import RESTART
for _ in range(int(sys.argv[1])):
    try:
        ask(sys.argv[2], RESTART, "parser.7")
    except ValueError as error:
        print(error)
"""


def ask_in(lab: Lab, times: int = 1) -> list[str]:
    """What the agent answers to requests to restart a worker that is not there."""
    command = [str(AGENT.with_name("python")), "-c", ASKER, str(times), Layout().control_socket]
    return lab.run(command, cwd=str(PROJECT)).stdout.splitlines()


def records(lab: Lab) -> list[Told]:
    return [json.loads(line) for line in lab.path(LOG).read_bytes().splitlines()]


def of(lab: Lab, event: str) -> list[Told]:
    return [record for record in records(lab) if record["event"] == event]


def verify(lab: Lab, *options: str, given: bytes = b"") -> tuple[int, str]:
    """Exit status and last line of the command."""
    done = lab.run([str(AGENT), "log", "verify", *options], given=given)
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def who(told: Told) -> tuple[str, int]:
    return told["worker"], told["pid"]


def test_what_happened_is_recorded_once_each() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        seen: set[str] = set()

        def settled() -> bool:
            seen.update(name for name, pids in vm.scene.workers().items() if pids)
            return vm.scene.is_settled()

        until("Ready", settled, timeout_s=20, every_s=0.001)
        until("no worker is left", lambda: not vm.scene.workers())
        until("every end is recorded", lambda: len(of(vm.lab, "worker-exit")) == len(of(vm.lab, "worker-start")))
        starts, exits = of(vm.lab, "worker-start"), of(vm.lab, "worker-exit")
        assert Counter(map(who, starts)) == Counter(map(who, exits))
        assert {name for name in seen if "-programs" not in name} <= {told["worker"] for told in starts}
        verified = Counter(told["worker"] for told in of(vm.lab, "worker-verified"))
        assert verified == Counter(told["worker"] for told in starts if told["kind"] != "verifier")
        steps = replay(vm.lab.path(JOURNAL).read_bytes()).state.steps
        commits = Counter(told["decision"] for told in of(vm.lab, "commit") if "kind" in told)
        assert commits == {"intended": len(steps), "done": len(steps)}
        by_itself = [(told["request"], told["decision"]) for told in of(vm.lab, "commit") if "kind" not in told]
        assert by_itself == [("StoreCustomData", "intended"), ("StoreCustomData", "done")]
        assert [told["detail"] for told in of(vm.lab, "phase")][:2] == ["provisioning", "steady"]
        asked = [told["request"] for told in of(vm.lab, "request") if told["kind"] == "provisioning"]
        assert [told["request"] for told in of(vm.lab, "decision")] == asked
        assert vm.told(str(vm.wanted.password)) == []
        assert verify(vm.lab)[0] == 0
        assert vm.lab.path(LOG).stat().st_mode & 0o777 == 0o600

        vm.ps()
        assert ask_in(vm.lab) == ["no worker is called parser.7"]
        with pytest.raises(PermissionError):
            ask(str(vm.lab.path(Layout().control_socket)), RESTART, "parser.7")
        decided = [(told["request"], told["decision"], told["uid"]) for told in of(vm.lab, "control")]
        assert decided == [("restart", "failed", 0), ("restart", "refused", 0)]

        assert vm.scene.stop_agent(vm.agent) == 0
        assert records(vm.lab)[-1]["event"] == "agent-stop"
        said = [line.rpartition(" is at ")[2] for line in vm.scene.log().splitlines() if "the audit log is at " in line]
        status, told = verify(vm.lab, *(f"--anchor={anchor}" for anchor in said))
        assert (status, f"{len(said)} copies kept elsewhere" in told) == (0, True), told


def test_a_cut_is_found_now_and_after_the_next_start() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        vm.scene.stop_agent(vm.agent)
        log = vm.lab.path(LOG)
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-5]))
        status, told = verify(vm.lab)
        assert (status, told.startswith("cut: ")) == (1, True)
        vm.boot(None)
        vm.residents()
        (missing,) = of(vm.lab, "records-missing")
        assert (missing["last"] - missing["first"] + 1, "in this very boot" in missing["detail"]) == (5, True)
        status, told = verify(vm.lab)
        assert (status, f"records {missing['first']} to {missing['last']} were missing" in told) == (1, True)


def test_kill_9_of_the_supervisor_leaves_a_whole_chain() -> None:
    with booted(config=QUICK) as vm:
        vm.boot(vm.wanted.medium())
        kills = 0
        for wanted in (1, 9, 30, 60, 75):
            until(f"{wanted} records", lambda count=wanted: _count(vm) >= count, timeout_s=20, every_s=0.0002)  # type: ignore[misc]
            kills += kill_process(supervisor_pid(vm.agent))
            status, told = verify(vm.lab)
            assert status == 0, told
        vm.scene.wait_until_ready()
        # And once more when provisioning is over: then a fresh process goes on.
        until("the last start", lambda: "agent-start" in _events_after(vm, "agent-stop"))
        # One that is killed at once may have no time to record its start.
        assert kills + 1 <= len(of(vm.lab, "agent-start")) <= kills + 2
        assert len(of(vm.lab, "log-begun")) == 1
        status, told = verify(vm.lab)
        assert status == 0, told


def _events_after(vm: Vm, event: str) -> list[str]:
    events = [told["event"] for told in records(vm.lab)]
    return events[events.index(event) :] if event in events else []


def _count(vm: Vm) -> int:
    try:
        return vm.lab.path(LOG).read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def test_a_full_disk_is_told_by_ps_and_by_the_log() -> None:
    with booted() as vm:
        folder = str(Layout().state)
        vm.lab.output("mkdir", "-p", folder)
        vm.lab.output("mount", "-n", "-t", "tmpfs", "-o", "mode=0700,size=192k", "small", folder)
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        vm.settled()
        assert "audit log" not in vm.ps_command()
        vm.lab.run(["dd", "if=/dev/zero", f"of={folder}/ballast", "bs=1k"])

        while not vm.ps().overview.counters.audit_lost:
            ask_in(vm.lab, 20)

        def is_told() -> bool:
            return f"audit log: {vm.ps().overview.counters.audit_lost} records lost" in vm.ps_command()

        until("ps tells how many", is_told)
        vm.lab.output("rm", f"{folder}/ballast")
        ask_in(vm.lab)
        count = vm.ps().overview.counters.audit_lost
        assert count
        assert sum(told.get("count", 0) for told in of(vm.lab, "records-lost")) == count
        status, told = verify(vm.lab)
        assert (status, "records could not be written" in told) == (0, True)


def test_systemds_journal_has_every_record_with_its_fields() -> None:
    with SystemdLab(image_files(QUICK)) as lab:
        scene = Scene(lab, f"system.slice/{UNIT}")
        scene.start_host()
        scene.insert(Wanted().medium())
        assert lab.systemctl("start", UNIT).returncode == 0
        scene.wait_until_ready()
        until("the vault's end", lambda: [told for told in of(lab, "worker-exit") if told["kind"] == "vault"])
        written = records(lab)

        def exported() -> list[str]:
            lines = lab.output("journalctl", "--no-pager", "--output=json", "--identifier=agent-supervisor-audit")
            return lines.splitlines() if len(lines.splitlines()) >= len(written) else []

        lines = until("all are in the journal", exported)
        copies = [json.loads(line) for line in lines]
        by_seq = {int(copy["AGENT_SUPERVISOR_SEQ"]): copy for copy in copies}
        assert [by_seq[told["seq"]]["AGENT_SUPERVISOR_HASH"] for told in written] == [told["hash"] for told in written]
        commits = lab.output("journalctl", "--no-pager", "--output=cat", "AGENT_SUPERVISOR_EVENT=commit").splitlines()
        assert len(commits) >= len([told for told in written if told["event"] == "commit"])
        assert commits[0].startswith("audit: commit ")
        one = by_seq[next(told["seq"] for told in written if told["event"] == "worker-exit")]
        assert one["AGENT_SUPERVISOR_WORKER"].partition(".")[0] == one["AGENT_SUPERVISOR_KIND"]
        assert one["_SYSTEMD_UNIT"] == UNIT

        given = "\n".join(lines).encode()
        status, told = verify(lab, "--journal", "-", given=given)
        assert (status, f"{len(copies)} copies kept elsewhere" in told) == (0, True), told
