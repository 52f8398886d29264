# SPDX-License-Identifier: Apache-2.0
"""Whoever changes the rule: it is put back at once, recorded with who it was, counted; others' rules stay theirs."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from policy.egress import CANARY, CANARY_PORT, PORTS, TABLE
from supervisor.layout import Layout
from tests.egress.asking import COMPARED, ELSEWHERE
from tests.egress.restarts import asking
from tests.fabric.lab import PROJECT, Lab
from tests.fabric.scene import AGENT, kill_process
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import WaitedInVain, until

pytestmark = pytest.mark.root

CHANGES = {
    "everything flushed": "flush ruleset",
    "our table deleted": f"delete table ip {TABLE}",
    "the table for bridges deleted": f"delete table bridge {TABLE}",
    "a chain renamed": f"rename chain ip {TABLE} leaving departing",
    "a rule put in front": f"insert rule ip {TABLE} leaving accept",
    "a chain emptied": f"flush chain ip {TABLE} arriving",
    "an address taken out": f"delete element ip {TABLE} guarded {{ 168.63.129.16 . 80 }}",
    "the table put to sleep": f"add table ip {TABLE} {{ flags dormant; }}",
}
WATCH, OF_WATCH = PROJECT / "supervisor/egress/events.py", "        loop.watch(descriptor, self._read)\n"
PATIENCE_S = 2.0
# nft finds another cgroup where the supervisor's own is.
MISLEAD = "top=$(findmnt -n -o TARGET -t cgroup2); mount -n --bind $top/init $top/agent/supervisor"
NOBODY = 65534
MORE_THAN_IT_CAN_TELL = 120_000
LISTENER = """
import socket, sys
made = socket.socket()
try:
    made.bind((sys.argv[1], int(sys.argv[2])))
    made.listen()
    print("listens", flush=True)
except OSError as error:
    print(type(error).__name__, flush=True)
sys.stdin.readline()
"""
CONNECTOR = """
import socket
try:
    socket.create_connection(("168.63.129.16", 80), 2)
    print("reached")
except ConnectionRefusedError:
    print("refused")
"""
KEPT_FROM_LOOPBACK = (
    "add table inet fw; add chain inet fw out { type filter hook output priority 0; }; add rule inet fw out "
    f"ip daddr {CANARY} reject with icmp type admin-prohibited"
)
# As long as its process lives nobody else can change it.
OWNED = f"add table ip {TABLE} {{ flags owner; }}\n".encode()
# Asks from within the machine, as an administrator does.
ASKER = (
    "import sys; from supervisor.cli.client import ask; from supervisor.verbs import *; ask(sys.argv[1], RENEW_RULE)"
)


def rules(lab: Lab) -> str:
    """All of nftables, without what only counts."""
    return re.sub(r"packets \d+ bytes \d+", "packets", lab.output("nft", "list", "ruleset"))


@contextmanager
def listening(vm: Vm, address: str, port: int, uid: int = 0) -> Iterator[str]:
    """Somebody listens there as long as the block lasts; gives what came of it."""
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", sys.executable, "-c", LISTENER]
    listener = vm.lab.popen(
        [*command, address, str(port)], cgroup="other", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert listener.stdout is not None
    try:
        yield listener.stdout.readline().decode().strip()
    finally:
        listener.communicate(b"\n", timeout=10)


def reaches(vm: Vm, uid: int = 0) -> str:
    """What somebody else's connection to the WireServer comes to."""
    become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return vm.lab.output(*become, sys.executable, "-c", CONNECTOR).strip()


def renew(vm: Vm) -> None:
    vm.lab.output(str(AGENT.with_name("python")), "-c", ASKER, Layout().control_socket)


def told(vm: Vm) -> list[str]:
    """What the audit log has of the rule."""
    lines = vm.lab.path(Layout().audit_log).read_bytes().splitlines()
    return [record["detail"] for record in map(json.loads, lines) if record["event"] == "egress"]


@contextmanager
def running(config: bytes = QUICK) -> Iterator[Vm]:
    """A VM whose rule is in force, with nothing more of it to come."""
    with booted(config=config) as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        vm.settled()
        until("all is done", lambda: len(told(vm)) >= 2 and not vm.scene.workers())
        yield vm


@pytest.fixture(scope="module")
def vm() -> Iterator[Vm]:
    with running() as vm:
        yield vm


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_put_back_recorded_and_counted(vm: Vm, change: str) -> None:
    right, before, recorded = rules(vm.lab), vm.ps().overview.egress, len(told(vm))
    vm.lab.output("nft", CHANGES[change])
    until("the rule is back", lambda: vm.ps().overview.egress.put_back == before.put_back + 1, PATIENCE_S)
    assert rules(vm.lab) == right
    after = vm.ps().overview.egress
    assert re.fullmatch(r"nft, pid [0-9]+", after.last_by)
    (record,) = told(vm)[recorded:]
    assert record == f"in force: nft-cgroup, enforce, put back, changed by {after.last_by}"
    assert f", last after a change by {after.last_by}" in " ".join(vm.ps_command().split())
    assert "was changed by nft, pid" in vm.scene.log()


def test_others_rules_are_their_own_affair(vm: Vm) -> None:
    before, recorded = vm.ps().overview.egress, told(vm)
    vm.lab.output("nft", "add table ip theirs; add chain ip theirs some { type filter hook output priority 0; }")
    for _ in range(3):
        vm.lab.output("nft", "add rule ip theirs some ip daddr 192.0.2.1 drop")
    vm.lab.output("nft", "delete table ip theirs")
    assert (vm.ps().overview.egress, told(vm)) == (before, recorded)


def test_whoever_changes_it_all_the_time_gets_it_back_four_times_a_second(vm: Vm) -> None:
    right, before = rules(vm.lab), vm.ps().overview.egress.put_back
    began = vm.lab.output("cut", "-d ", "-f1", "/proc/uptime")
    vm.lab.output("sh", "-c", f"for each in $(seq 15); do nft flush ruleset; nft add table ip {TABLE}; sleep 0.1; done")
    until("the rule is back", lambda: rules(vm.lab) == right, 2 * PATIENCE_S)
    seconds = float(vm.lab.output("cut", "-d ", "-f1", "/proc/uptime")) - float(began)
    times = vm.ps().overview.egress.put_back - before
    assert 1 <= times <= 4 * seconds + 1
    assert vm.ps().overview.counters.violations == 0


def test_more_changes_than_the_kernel_can_tell_are_taken_for_one_of_ours(vm: Vm) -> None:
    before = _count_at_rest(vm)
    # As many as a large cluster's node has are none too many.
    load_chains(vm, 20_000)
    vm.lab.output("nft", "add table ip elsewhere; delete table ip elsewhere")
    assert vm.ps().overview.egress.put_back == before
    load_chains(vm, MORE_THAN_IT_CAN_TELL)
    until("the rule is back", lambda: vm.ps().overview.egress.put_back > before, PATIENCE_S)
    assert "could not tell all" in vm.ps().overview.egress.last_by


def _count_at_rest(vm: Vm) -> int:
    """How often the rule was put back, once nothing more comes of an earlier test."""
    seen: list[int] = []

    def has_come_to_rest() -> bool:
        seen.append(vm.ps().overview.egress.put_back)
        return seen[-20:] == 20 * seen[-1:]

    until("no change is under way", has_come_to_rest, every_s=0.05)
    return seen[-1]


@pytest.mark.parametrize("address", ["0.0.0.0", CANARY])
def test_whoever_may_not_take_the_canarys_port_keeps_nothing_away(vm: Vm, address: str) -> None:
    before = vm.ps().overview.egress.put_back
    with listening(vm, address, PORTS[1], uid=NOBODY) as outcome:
        assert outcome == "listens"
        vm.lab.output("nft", "flush", "ruleset")
        until("the rule is back", lambda: vm.ps().overview.egress.put_back == before + 1, PATIENCE_S)
        assert vm.ps().overview.egress.doubt == ""
        assert reaches(vm, uid=NOBODY) == "refused"
    with listening(vm, address, CANARY_PORT, uid=NOBODY) as outcome:
        assert outcome == "PermissionError"


def test_where_root_has_the_canarys_port_the_rule_is_put_back_and_said_to_be_untried(vm: Vm) -> None:
    before = vm.ps().overview.egress.put_back
    with listening(vm, "0.0.0.0", CANARY_PORT):
        vm.lab.output("nft", "flush", "ruleset")
        until("the rule is back", lambda: vm.ps().overview.egress.put_back == before + 1, PATIENCE_S)
        assert vm.ps().overview.egress.doubt == f"nobody can listen at {CANARY}:{CANARY_PORT} (Address already in use)"
        assert "but that can't be tried: nobody can listen" in " ".join(vm.ps_command().split())
        assert (reaches(vm), reaches(vm, uid=NOBODY)) == ("refused", "refused")
    renew(vm)
    until("it is tried", lambda: vm.ps().overview.egress.doubt == "")


def test_where_others_rules_keep_packets_from_the_canary_it_is_put_back_and_said_to_be_untried(vm: Vm) -> None:
    before = vm.ps().overview.egress.put_back
    vm.lab.output("nft", f"flush ruleset; {KEPT_FROM_LOOPBACK}")
    until("the rule is back", lambda: vm.ps().overview.egress.put_back == before + 1, PATIENCE_S)
    assert "does not get as far as the rule (No route to host)" in vm.ps().overview.egress.doubt
    assert reaches(vm) == "refused"
    vm.lab.output("nft", "delete table inet fw")
    renew(vm)
    until("it is tried", lambda: vm.ps().overview.egress.doubt == "")


def test_a_second_flush_in_the_moment_of_the_load_costs_no_more_than_another_load(vm: Vm) -> None:
    right, errors = rules(vm.lab), vm.scene.log().count(" ERROR ")
    for pause in (0.03, 0.05, 0.07, 0.09, 0.11, 0.15):
        vm.lab.output("sh", "-c", f"nft flush ruleset; sleep {pause}; nft flush ruleset")
        until(f"the rule is back, {pause} s", lambda: rules(vm.lab) == right, 1.0, every_s=0.02)
    assert vm.ps().overview.egress.mechanism == "nft-cgroup"
    assert vm.scene.log().count(" ERROR ") == errors
    # What is loaded stays, as long as nobody takes it away: it is not the committer who does.
    assert "was taken away again" not in vm.scene.log()


def test_a_table_that_nobody_may_replace_leaves_it_unknown_and_is_replaced_when_it_can_be() -> None:
    with booted() as vm:
        vm.lab.output("rm", "-f", "/usr/sbin/iptables", "/usr/sbin/iptables-restore")
        owner = vm.lab.popen(["nft", "-i"], cgroup="other", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert owner.stdin is not None
        owner.stdin.write(OWNED)
        owner.stdin.flush()
        until("its table", lambda: TABLE in vm.lab.output("nft", "list", "tables"))
        vm.boot(vm.wanted.medium())
        until("it is said", lambda: (snapshot := vm.ps_or_none()) and snapshot.overview.egress.doubt)
        egress = vm.ps().overview.egress
        assert (egress.mechanism, egress.why) == ("", "")
        assert "what is left of it can't be removed" in egress.doubt
        assert "not known whether it is open to root and everybody else" in vm.ps_command()
        owner.stdin.close()
        owner.wait(timeout=10)
        until("the rule is in force", lambda: vm.ps().overview.egress.mechanism == "nft-cgroup")
        vm.scene.wait_until_ready()


def test_another_address_in_the_midst_of_a_load_is_waited_for() -> None:
    with asking("move") as (scene, _):
        compared = scene.lab.path(COMPARED)
        until("a socket is given", compared.exists)
        assert f"of {ELSEWHERE} in force" in compared.read_text()


def test_a_better_mechanism_is_taken_when_it_works_again() -> None:
    with booted(config=QUICK + b"OS.EnableFirewallPeriod=1\n") as vm:
        vm.lab.output("mv", "/usr/sbin/nft", "/usr/sbin/nft.gone")
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        until("another mechanism", lambda: vm.ps().overview.egress.mechanism == "iptables")
        vm.lab.output("mv", "/usr/sbin/nft.gone", "/usr/sbin/nft")
        until("the better one", lambda: vm.ps().overview.egress.mechanism == "nft-cgroup")
        assert "AGENT-SUPERVISOR" not in vm.lab.output("iptables", "-S")
        asked = len(vm.scene.records())
        renew(vm)
        until("the host is asked", lambda: len(vm.scene.records()) > asked)
        assert vm.mistakes() == []


def load_chains(vm: Vm, number: int) -> None:
    """So many in one transaction, of somebody else's table, which goes with it."""
    chains = "".join(f"add chain ip many chain{number}\n" for number in range(number))
    done = vm.lab.run(["nft", "-f", "-"], given=f"add table ip many\n{chains}delete table ip many\n".encode())
    assert done.returncode == 0, done.stderr


def test_without_the_watch_it_stays_away() -> None:
    source = WATCH.read_text()
    assert source.count(OF_WATCH) == 1
    with booted() as vm:
        mutant = "/run/fabric/events.py"
        vm.lab.path(mutant).write_text(source.replace(OF_WATCH, ""))
        vm.lab.output("mount", "-n", "--bind", mutant, str(WATCH))
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        vm.settled()
        until("all is done", lambda: len(told(vm)) >= 2 and not vm.scene.workers())
        vm.lab.output("nft", "flush", "ruleset")
        with pytest.raises(WaitedInVain):
            until("the rule is back", lambda: rules(vm.lab), 1.0)
        assert vm.ps().overview.egress.put_back == 0


def test_a_committer_that_is_killed_is_replaced_and_the_rule_is_back() -> None:
    with running() as vm:
        right = rules(vm.lab)
        vm.lab.output("nft", "flush", "ruleset")
        killed = until("a committer of the rule", lambda: _egress(vm), every_s=0.0005)
        kill_process(killed[0])
        until("the rule is back", lambda: vm.ps().overview.egress.put_back == 1)
        assert rules(vm.lab) == right


def _egress(vm: Vm) -> list[int]:
    return vm.scene.workers().get("egress.0", [])


def test_a_machine_that_can_do_none_of_it_says_so_and_lives_on() -> None:
    with booted(config=QUICK + b"OS.EnableFirewallPeriod=1\n") as vm:
        vm.lab.output("sh", "-c", "cp -a /usr/sbin/nft /run/nft && rm -f /usr/sbin/nft /usr/sbin/iptables")
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        vm.settled()
        until("it is said", lambda: vm.ps().overview.egress.why)
        assert "WireServer open to root and everybody else: nft-cgroup: program nft is not installed" in vm.scene.log()
        assert "WireServer open to root" in vm.ps_command()
        assert "not in force" in told(vm)[0]
        vm.lab.output("cp", "-a", "/run/nft", "/usr/sbin/nft")
        # It may come in the middle of a round through all that there is.
        until("it is tried again", lambda: vm.ps().overview.egress.mechanism.startswith("nft-"))
        assert vm.mistakes() == []


def test_a_rule_that_would_refuse_the_supervisor_is_not_kept() -> None:
    with running(QUICK + b"Extensions.GoalStatePeriod=1\n") as vm:
        vm.lab.output("sh", "-c", MISLEAD)
        renew(vm)
        until("the next mechanism", lambda: vm.ps().overview.egress.mechanism == "nft-uid")
        assert "nft-cgroup: a socket of the supervisor's own is refused: connection refused" in vm.scene.log()
        asked = len(vm.scene.records())
        until("the host is asked", lambda: len(vm.scene.records()) > asked)
        assert vm.refused() == []


def test_no_other_worker_is_begun_before_it_is_in_force(vm: Vm) -> None:
    records = [json.loads(line) for line in vm.lab.path(Layout().audit_log).read_bytes().splitlines()]
    starts = [number for number, record in enumerate(records) if record["event"] == "agent-start"]
    assert len(starts) == 2
    for begun in starts:
        in_force = next(number for number in range(begun, len(records)) if records[number]["event"] == "egress")
        kinds = {record["kind"] for record in records[begun:in_force] if record["event"] == "worker-start"}
        assert kinds == {"egress", "verifier"}
