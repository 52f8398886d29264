# SPDX-License-Identifier: Apache-2.0
"""The table of attempts: who else reaches the WireServer, when, with each mechanism of the rule. Nobody does."""

import re
import select
import subprocess
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from ipc.messages.egress import Mechanism
from policy.egress import TABLE, iptables, nft
from tests.egress.yard import CONFIG, EVERYTHING, NOBODY, Yard, yard
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

MECHANISMS: tuple[Mechanism, ...] = get_args(Mechanism)
Outcomes = dict[str, list[str]]
BESIDE = "root beside the supervisor"
# Who tries: name -> where from.
OTHERS: dict[str, dict[str, Any]] = {
    "an unprivileged user": {"uid": NOBODY},
    "root in another cgroup": {},
    "a root extension": {"cgroup": "extension"},
    BESIDE: {"cgroup": "agent/other"},
    "root, by IPv6's notation": {"way": "mapped"},
    "a container, forwarded": {"net": "routed"},
    "a container, bridged": {"net": "bridged"},
}
REFUSED = {"ConnectionRefusedError", "ConnectionResetError", "ConnectionAbortedError", "TimeoutError", "closed"}
# A line that was written as soon as its connections were there has been read by then; flushes until there are any.
SLOW_S, FLUSHES_MOST = 0.5, 20


def slug(name: str) -> str:
    """As it goes into a request."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


class Tries:
    """The attempts on one VM, and what came of them."""

    def __init__(self, vm: Yard) -> None:
        self.vm = vm
        self.outcomes: Outcomes = {}

    def all_at(self, when: str, names: list[str]) -> None:
        """Everybody at once."""
        begun = {name: self._begin(name) for name in names}
        for name, process in begun.items():
            self.note(f"{name}, {when}", process)

    def note(self, row: str, process: subprocess.Popen[bytes], given: bytes = b"") -> None:
        out, _ = process.communicate(given, timeout=30)
        self.outcomes[row] = [word for word in out.decode().split() if word not in {"begun", "held"}]

    def begin(self, way: str, name: str = "") -> subprocess.Popen[bytes]:
        """One that has begun."""
        process = self.vm.attempt(way, name or way)
        assert _said(process) == b"begun"
        return process

    def held(self) -> subprocess.Popen[bytes]:
        """One that holds its connections."""
        process = self.begin("hold")
        assert _said(process) == b"held"
        return process

    def grabbed(self, mechanism: Mechanism) -> subprocess.Popen[bytes]:
        """One that has taken its connections while the rule was away; it is back. A flush that comes in the moment of
        a load is over before anybody notices: another one then."""
        process = self.begin("hold", "grab")
        assert process.stdout is not None
        for _ in range(FLUSHES_MOST):
            self.vm.lab.output("sh", "-c", EVERYTHING[mechanism])
            until("the rule is back", lambda: _is_there(self.vm, mechanism))
            if select.select([process.stdout], [], [], SLOW_S)[0]:
                assert _said(process) == b"held"
                break
        return process

    def one(self, name: str) -> list[str]:
        """What comes of one's attempt."""
        self.note(name, self._begin(name))
        return self.outcomes[name]

    def _begin(self, name: str) -> subprocess.Popen[bytes]:
        where: dict[str, Any] = dict(OTHERS[name])
        return self.vm.attempt(str(where.pop("way", "once")), slug(name), **where)


def play(mechanism: Mechanism) -> Outcomes:
    """A VM from before its rule to after its flush."""
    others = list(OTHERS)
    with yard(mechanism) as vm:
        tries = Tries(vm)
        held = tries.held()
        vm.load_boot_rule(mechanism)
        tries.note("root, over a connection from before the rule", held, b"now\n")
        tries.all_at("before the agent", [name for name in others if name != BESIDE])
        stubborn = tries.begin("again")
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        vm.settled()
        tries.note("root, again and again during the start", stubborn)
        until("the rule is in force", lambda: vm.ps().overview.egress.mechanism == mechanism)
        tries.all_at("while it runs", others)
        # Somebody takes the rule away: what is grabbed in between is worth nothing afterwards.
        tries.note("root, over a connection grabbed after a flush", tries.grabbed(mechanism), b"now\n")
        tries.all_at("after a flush", others)
        assert vm.reached() == []
        asked = len(vm.scene.records())
        until("the agent's own requests", lambda: len(vm.scene.records()) > asked + 1)
        assert vm.refused() == []
        return tries.outcomes


def _is_there(vm: Yard, mechanism: Mechanism) -> bool:
    """Whoever flushed it, and whether that was noticed."""
    if mechanism == "iptables":
        return bool(iptables.ours(vm.lab.output("iptables", "-w", "-S", "OUTPUT")))
    return ("ip", TABLE) in nft.tables(vm.lab.output("nft", *nft.LIST))


def _said(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture(scope="module")
def table() -> Iterator[dict[Mechanism, Outcomes]]:
    """What came of all attempts, shown when there are no more."""
    outcomes: dict[Mechanism, Outcomes] = {}
    yield outcomes
    print(_shown(outcomes))


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_nobody_reaches_the_wireserver(mechanism: Mechanism, table: dict[Mechanism, Outcomes]) -> None:
    table[mechanism] = outcomes = play(mechanism)
    # An attempt that nothing came of was none.
    wrong = {row: came for row, came in outcomes.items() if not came or not set(came) <= REFUSED}
    assert wrong == {}


@pytest.mark.parametrize("option", [b"OS.EnableFirewall=n\n", b"Firewall.Mode=off\n"])
def test_everybody_does_where_it_is_switched_off(option: bytes) -> None:
    with yard("nft-cgroup", CONFIG + option) as vm:
        tries = Tries(vm)
        # An earlier start's rule would refuse the agent itself.
        vm.load_boot_rule("nft-cgroup")
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        for name in OTHERS:
            until(f"{name} reaches it", lambda name=name: tries.one(name) == ["REACHED", "REACHED"])  # type: ignore[misc]
        assert set(vm.reached()) == set(map(slug, OTHERS))
        assert "WireServer open to root and everybody else: OS.EnableFirewall is n" in vm.ps_command()


def _shown(table: dict[Mechanism, Outcomes]) -> str:
    rows = list(dict.fromkeys(row for outcomes in table.values() for row in outcomes))
    width = max(map(len, rows), default=0)
    head = f"\n{'who, when':{width}}" + "".join(f"  {each:>12}" for each in table) + "   (reached of tries)"
    counts = ("".join(f"  {_count(outcomes[row]):>12}" for outcomes in table.values()) for row in rows)
    return "\n".join([head, *(f"{row:{width}}{count}" for row, count in zip(rows, counts, strict=True))])


def _count(outcomes: list[str]) -> str:
    return f"{outcomes.count('REACHED')} of {len(outcomes)}"
