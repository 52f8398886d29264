# SPDX-License-Identifier: Apache-2.0
"""The rule by iptables, of either kind, under the running agent: it is put back, too, and what it can't do is said."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from policy.egress import iptables
from tests.egress.test_watch import reaches, told
from tests.fabric.lab import PROJECT, Lab
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import WaitedInVain, until

pytestmark = pytest.mark.root

OLDER = "for name in iptables iptables-restore; do ln -sf /usr/sbin/xtables-legacy-multi /usr/sbin/$name; done"
KINDS = {"newer": "rm /usr/sbin/nft", "older": f"rm /usr/sbin/nft; {OLDER}; touch /run/xtables.lock"}
CHANGES = {
    "everything flushed": "iptables -w -F",
    "nothing leads into ours": "iptables -w -F OUTPUT",
    "let through before ours": "iptables -w -I OUTPUT -p tcp -j ACCEPT",
}
IN_FRONT = "let through before ours"
BETWEEN = "somebody, between two looks"
SEPARATE = "looked at after each OS.EnableFirewallPeriod"
LOOK, OF_LOOK = "supervisor/egress/look.py", "        if self.passes():\n"
# The sockets are not made there, though it is a cgroup: as where the kernel knows none of sockets.
PLACE, OF_PLACE = "supervisor/egress/wanted.py", 'WORKERS = "workers"\n'
# On a machine with much else to do; how soon it is otherwise, tests/bench measures.
PATIENCE_S, FRONT_PATIENCE_S = 4.0, 10.0


@contextmanager
def running(kind: str, config: bytes = QUICK, *mutation: str) -> Iterator[Vm]:
    """A VM with no nft, its rule in force with nothing more to come. `mutation`: a file, a part of it, and another."""
    with booted(config=config) as vm:
        vm.lab.output("sh", "-c", KINDS[kind])
        if mutation:
            name, part, other = mutation
            source = (PROJECT / name).read_text()
            assert source.count(part) == 1
            vm.lab.path("/run/fabric/mutant.py").write_text(source.replace(part, other))
            vm.lab.output("mount", "-n", "--bind", "/run/fabric/mutant.py", str(PROJECT / name))
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        vm.settled()
        until("all is done", lambda: len(told(vm)) >= 2 and not vm.scene.workers())
        yield vm


@pytest.fixture(scope="module", params=KINDS)
def vm(request: pytest.FixtureRequest) -> Iterator[tuple[str, Vm]]:
    with running(request.param) as vm:
        yield request.param, vm


def rules(lab: Lab) -> tuple[str, ...]:
    return iptables.ours(lab.output("iptables", "-w", "-S"))


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_put_back_recorded_and_counted(vm: tuple[str, Vm], change: str) -> None:
    kind, machine = vm
    right, before, recorded = rules(machine.lab), machine.ps().overview.egress, len(told(machine))
    machine.lab.output("sh", "-c", CHANGES[change])
    told_at_once = kind == "newer" and change != IN_FRONT
    patience_s = PATIENCE_S if told_at_once or kind == "older" else FRONT_PATIENCE_S
    until("it is back", lambda: machine.ps().overview.egress.put_back == before.put_back + 1, patience_s)
    assert (reaches(machine), rules(machine.lab)) == ("refused", right)
    last_by = machine.ps().overview.egress.last_by
    assert re.fullmatch(r"iptables, pid [0-9]+", last_by) if told_at_once else last_by == BETWEEN
    (record,) = told(machine)[recorded:]
    assert record == f"in force: iptables, enforce, put back, changed by {last_by}"


def test_others_rules_are_their_own_affair(vm: tuple[str, Vm]) -> None:
    _, machine = vm
    before = machine.ps().overview.egress
    machine.lab.output(
        "sh", "-c", "iptables -w -A OUTPUT -d 192.0.2.1 -j DROP; iptables -w -D OUTPUT -d 192.0.2.1 -j DROP"
    )
    with pytest.raises(WaitedInVain):
        until("it is loaded", lambda: machine.ps().overview.egress != before, 1.0)


def test_whoever_takes_away_what_is_bridged_does_not_for_long() -> None:
    with running("newer") as vm:
        right = vm.lab.output("ebtables", "-L")
        assert "AGENT-SUPERVISOR" in right
        vm.lab.output("ebtables", "-F")
        until("it is back", lambda: vm.lab.output("ebtables", "-L") == right)
        until("it is counted", lambda: re.match("ebtables, pid ", vm.ps().overview.egress.last_by))


def test_without_the_look_it_stays_away() -> None:
    with running("older", QUICK, LOOK, OF_LOOK, "        if not self:\n") as vm:
        vm.lab.output("iptables", "-w", "-F")
        with pytest.raises(WaitedInVain):
            until("it is back", lambda: vm.ps().overview.egress.put_back, PATIENCE_S)


@pytest.mark.parametrize("kind", KINDS)
def test_who_only_observes_is_told_what_nothing_tells(kind: str) -> None:
    with running(kind, QUICK + b"Firewall.Mode=observe\n") as vm:
        egress: Any = vm.ps().overview.egress
        assert (egress.mechanism, SEPARATE in egress.lacking) == ("iptables", kind == "older")
        assert (SEPARATE in " ".join(vm.ps_command().split())) == (kind == "older")


def test_where_the_kernel_cannot_tell_sockets_cgroups_only_what_leaves_is_judged() -> None:
    with running("newer", QUICK, PLACE, OF_PLACE, 'WORKERS = "supervisor"\n') as vm:
        egress = vm.ps().overview.egress
        assert egress.mechanism == "iptables"
        assert "packets that arrive are not judged" in egress.lacking
        assert "packets that arrive are not judged" in " ".join(vm.ps_command().split())
        assert not [line for line in rules(vm.lab) if "cgroup" in line]
        assert reaches(vm) == "refused"
