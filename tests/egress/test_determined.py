# SPDX-License-Identifier: Apache-2.0
"""What root can still do about the rule, as the documents say it, with the result as it is; and what then stops him."""

import json
from typing import get_args

import pytest

from ipc.messages.egress import Mechanism
from tests.egress.rules_ground import WIRE_UID
from tests.egress.yard import EVERYTHING, RECORDS, Yard, yard
from tests.fabric.scene import CONTROL
from tests.fabric.waiting import until
from tests.fabric.wire_control import ask

pytestmark = pytest.mark.root

NAIVE, JOINS, BECOMES, BOTH = "just tries", "joins the cgroup", "takes on the uid", "takes it on among the workers"
FLUSHES = "flushes the rule, then tries"
# By iptables what leaves is judged by the uid, and what arrives by the cgroup.
SUCCEEDS: dict[Mechanism, set[str]] = {"nft-cgroup": {JOINS}, "nft-uid": {BECOMES, BOTH}, "iptables": {BOTH}}
THROUGH, REFUSED = "gets through", "is refused"
# Bash connects by itself: no time is lost on starting a program. Who comes too late flushes again.
TIMES = 20
ASKS = (
    "exec 3<>/dev/tcp/168.63.129.16/80 && printf 'GET /?attempt=flushes HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3 "
    "&& read -r line <&3 && echo through"
)


def running(vm: Yard, mechanism: Mechanism) -> Yard:
    vm.boot(vm.wanted.medium())
    vm.scene.wait_until_ready()
    vm.settled()
    until("the rule is in force", lambda: vm.ps().overview.egress.mechanism == mechanism)
    return vm


def outcome(vm: Yard, name: str, **where: object) -> str:
    """Of one attempt at both ports."""
    process = vm.attempt("once", name, **where)  # type: ignore[arg-type]
    out, _ = process.communicate(timeout=30)
    return THROUGH if b"REACHED" in out else REFUSED


def after_a_flush(vm: Yard, mechanism: Mechanism) -> str:
    """At once, before it is put back."""
    script = f"for time in $(seq {TIMES}); do {EVERYTHING[mechanism]}; ({ASKS}) && exit; sleep 0.5; done"
    done = vm.lab.run(["bash", "-c", script], cgroup="other")
    return THROUGH if "through" in done.stdout else REFUSED


def tries(vm: Yard, mechanism: Mechanism) -> dict[str, str]:
    """What root can do, and what comes of it."""
    return {
        NAIVE: outcome(vm, "naive"),
        JOINS: outcome(vm, "joins", cgroup="agent/supervisor"),
        BECOMES: outcome(vm, "becomes", uid=WIRE_UID),
        BOTH: outcome(vm, "both", uid=WIRE_UID, cgroup="agent/workers"),
        FLUSHES: after_a_flush(vm, mechanism),
    }


@pytest.mark.parametrize("mechanism", get_args(Mechanism))
def test_determined_root_gets_through_and_a_flush_is_on_record(
    mechanism: Mechanism, capsys: pytest.CaptureFixture[str]
) -> None:
    with yard(mechanism) as vm:
        found = tries(running(vm, mechanism), mechanism)
        with capsys.disabled():
            print(f"\nroot, against {mechanism}: " + ", ".join(f"{what}: {how}" for what, how in found.items()))
        assert {what for what, how in found.items() if how == THROUGH} == {*SUCCEEDS[mechanism], FLUSHES}
        until("the flush is on record", lambda: vm.put_back() >= 1)
        assert vm.ps().overview.egress.last_by.startswith(f"{EVERYTHING[mechanism].split()[0]}, pid ")


def test_the_secure_channel_refuses_whoever_got_through_without_the_key() -> None:
    with yard("nft-cgroup") as vm:
        for port in RECORDS:
            ask(vm.lab.path(f"{CONTROL}.{port}"), "channel enforce")
        running(vm, "nft-cgroup")
        until("requests are signed", lambda: "signed" in vm.ps().overview.secure_channel)
        assert outcome(vm, "joins", cgroup="agent/supervisor") == THROUGH
        verdicts = [
            record["verdict"]
            for record in map(json.loads, vm.lab.path(RECORDS[80]).read_text().splitlines())
            if "attempt=joins" in str(record)
        ]
        assert verdicts
        assert "accepted" not in verdicts
