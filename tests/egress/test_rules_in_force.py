# SPDX-License-Identifier: Apache-2.0
"""The rule, loaded by the real committer, on each mechanism: who gets through and who does not, over real networks."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ipc.messages import Committed, EgressGuarded
from tests.egress.responder import ADDRESS
from tests.egress.rules_ground import NOBODY, Ground, ground
from tests.fabric.waiting import until
from tests.jail.rigged import Rig

pytestmark = pytest.mark.root

REFUSED, NOTHING = "ConnectionRefusedError", "TimeoutError"
MECHANISMS = ("nft-cgroup", "nft-uid", "iptables", "iptables-legacy")


@dataclass
class Machine:
    """One mechanism on the ground; `by_uid`: the supervisor's sockets are those of the wire-socket worker."""

    ground: Ground
    rig: Rig
    kind: str
    mechanism: str
    by_uid: bool

    def guard(self, mode: str = "enforce", **more: object) -> EgressGuarded:
        answer = self.ground.guard(self.ground.rule(self.mechanism, mode, **more))
        assert isinstance(answer, EgressGuarded), answer
        return answer

    def reach(self, port: int = 80) -> str:
        return self.ground.reach(port, by_uid=self.by_uid)

    def canary(self) -> str:
        return str(self.rig.ask("canary", by_uid=self.by_uid)["outcome"])


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    with ground() as place, place.rigged():
        yield place


@pytest.fixture(params=MECHANISMS)
def machine(place: Ground, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """With no rule; whatever a test leaves is gone after it."""
    assert place.rig is not None
    mechanism = str(request.param).removesuffix("-legacy")
    with place.iptables_of("legacy" if request.param.endswith("-legacy") else "nft"):
        yield Machine(place, place.rig, request.param, mechanism, mechanism != "nft-cgroup")
        assert isinstance(place.open(), Committed)


def test_everybody_gets_through_without_it(place: Ground) -> None:
    """What the tests below show refused works as long as there is no rule."""
    assert place.open().fact == "there was no rule of ours"  # type: ignore[attr-defined]
    assert {place.outsider(), place.outsider(uid=NOBODY), place.outsider("mapped"), place.outsider(port=32526)} == {
        "here"
    }
    assert {place.outsider(net="routed"), place.outsider(net="bridged")} == {"here"}


def test_the_supervisor_gets_through_and_nobody_else(machine: Machine) -> None:
    place, answer = machine.ground, machine.guard()
    assert answer.fact.startswith(f"{machine.mechanism}, enforce: an outsider is refused")
    assert [machine.reach(), machine.reach(32526), machine.canary()] == ["here", "here", "connected"]
    assert place.outsider() == REFUSED
    assert place.outsider(port=32526) == REFUSED
    assert place.outsider(uid=NOBODY) == REFUSED
    assert place.outsider("mapped") == REFUSED
    assert place.outsider(net="routed") == NOTHING
    assert place.outsider(net="bridged") == NOTHING
    assert answer.lacking == ""
    assert answer.deaf == (machine.kind == "iptables-legacy")


def test_dns_stays_open_to_all(machine: Machine) -> None:
    place, _ = machine.ground, machine.guard()
    assert {place.outsider(port=53), place.outsider(port=53, uid=NOBODY), place.outsider(port=53, net="routed")} == {
        "here"
    }


def test_a_connection_from_before_gets_no_pending_reply_and_ours_does(machine: Machine) -> None:
    place = machine.ground
    held = place.popen("tests.egress.outsider", "hold", ADDRESS, "80")
    ours = machine.rig.ask("hold", address=ADDRESS, port=80, by_uid=machine.by_uid)["port"]
    assert held.stdout.readline().startswith(b"held ")
    answer = place.guard(place.rule(machine.mechanism), (ours,))
    assert isinstance(answer, EgressGuarded)
    assert answer.ended == 1
    assert place.outsider("go", port=53) == "gone"
    out, _ = held.communicate(b"\n", timeout=20)
    assert out.decode().strip() in {NOTHING, "ConnectionAbortedError"}
    assert machine.rig.ask("held")["outcome"] == "late"


def test_observe_refuses_nobody_and_has_seen_all(machine: Machine) -> None:
    place = machine.ground
    held = place.popen("tests.egress.outsider", "hold", ADDRESS, "80")
    assert held.stdout.readline().startswith(b"held ")
    answer = machine.guard("observe")
    assert answer.fact.startswith(f"{machine.mechanism}, observe: an outsider is let through, and was seen")
    assert answer.ended == 0
    assert {place.outsider(), place.outsider(uid=NOBODY), place.outsider(net="routed"), machine.reach()} == {"here"}
    assert place.outsider("go", port=53) == "gone"
    assert held.communicate(b"\n", timeout=20)[0].decode().strip() == "late"


def test_guests_are_admitted_until_they_are_not(machine: Machine) -> None:
    place = machine.ground
    by_cgroup = machine.mechanism == "nft-cgroup"
    guests = {"guests": ("azureprovisioning.slice",)} if by_cgroup else {"root_is_guest": True}
    place.outsider(cgroup="azureprovisioning.slice")
    answer = machine.guard(**guests)
    assert ("an outsider is refused" if by_cgroup else "root is admitted, and was seen") in answer.fact
    assert place.outsider(cgroup="azureprovisioning.slice") == "here"
    assert place.outsider(uid=NOBODY) == REFUSED
    assert place.outsider() == (REFUSED if by_cgroup else "here")
    machine.guard()
    assert place.outsider(cgroup="azureprovisioning.slice") == REFUSED


def test_it_is_replaced_as_often_as_it_is_loaded_and_goes_as_a_whole(machine: Machine) -> None:
    place = machine.ground
    listing = "nft list ruleset; iptables -S; ebtables -L"
    before = place.shell(listing)
    for mode in ("enforce", "observe", "enforce"):
        machine.guard(mode)
    assert place.outsider() == REFUSED
    assert "removed from" in place.open().fact  # type: ignore[attr-defined]
    assert place.outsider() == "here"
    left = place.shell(listing)
    assert "agent" not in left.lower()
    if machine.mechanism != "iptables":
        assert left == before


def test_what_has_no_full_socket_is_neither_answered_nor_counted(machine: Machine) -> None:
    """Here the FIN of a connection that nobody holds any more: a reset would end what a drop leaves as it is."""
    place = machine.ground
    port = place.orphan()
    assert isinstance(place.guard(place.rule(machine.mechanism), (port,)), EgressGuarded)
    counted, sent = place.refused(machine.mechanism), place.sent_again(port)
    place.shell("ip link set to-host up")
    until("another FIN", lambda: place.sent_again(port) > sent)
    assert place.refused(machine.mechanism) == counted
    assert place.outsider() == REFUSED
    assert place.refused(machine.mechanism) == counted + 1
    place.shell(f"ss -KHtn 'sport = :{port}'")


def test_what_has_no_port_to_be_judged_by_does_not_get_out(machine: Machine) -> None:
    place = machine.ground
    before = place.fragments()
    assert [place.outsider("fragment"), place.outsider("fragment", net="routed")] == ["sent", "sent"]
    until("both parts", lambda: place.fragments() == before + 2)
    machine.guard()
    assert [place.outsider("fragment"), place.outsider("fragment", net="routed")] == ["dropped", "sent"]
    assert place.outsider(port=53, net="routed") == "here"  # what was sent before has had its time
    assert place.fragments() == before + 2


def test_nobody_switches_connection_tracking_on(machine: Machine) -> None:
    machine.guard()
    machine.reach()
    machine.ground.outsider()
    assert machine.ground.tracked() == 0


def test_tracking_would_be_seen(place: Ground) -> None:
    chain = "chain output { type filter hook output priority 0; ct state new counter\n}"
    place.shell(f"nft 'table ip tracking {{ {chain}\n}}'")
    place.outsider()
    tracked = place.tracked()
    place.shell("nft delete table ip tracking")
    assert tracked > 0
