# SPDX-License-Identifier: Apache-2.0
"""The jobs of those who put the rule in front of the WireServer in force, and of who makes sockets for it."""

from collections.abc import Callable, Iterator
from typing import get_args

from ipc.messages import (
    CommitFailed,
    Committed,
    EgressGuarded,
    GuardEgress,
    HearRefusals,
    MakeSockets,
    Message,
    OpenEgress,
    RefusalsHeard,
    Rule,
    SocketsMade,
)
from ipc.messages.egress import Mechanism
from tests.least.place import Place
from tests.least.scenario import Phase, Reply, Scenario, nothing
from tests.least.shapes import with_a_real_lib, with_a_real_lib64, with_programs_in

ADDRESS = "168.63.129.16"
SUPERVISOR, WORKERS, UID = "agent/supervisor", "agent/workers", 61183
OURS = {
    "nft-cgroup": {"cgroup": SUPERVISOR},
    "nft-uid": {"uid": UID},
    "iptables": {"uid": UID, "cgroup": WORKERS},
}
ALL_RULES = "nft flush ruleset; for do in -F -X; do iptables $do; ebtables $do; iptables -t security $do; done"
OLDER = "/usr/sbin/xtables-legacy-multi"


def scenarios() -> Iterator[Scenario]:
    for phase in get_args(Phase):
        yield _job(
            f"the rule, {phase}", _guard("nft-cgroup"), _in_force, about=f"EgressGuarded in {phase}", phase=phase
        )
        yield _job(f"its end, {phase}", OpenEgress(), _gone, _loaded, f"Committed in {phase}", phase)
        yield _job(f"the log, {phase}", HearRefusals(), _heard, about=f"RefusalsHeard in {phase}", phase=phase)
        yield _job(f"a cgroup that is none, {phase}", _NONE, _failed, about=f"CommitFailed in {phase}", phase=phase)
        yield Scenario("wire-socket", f"sockets, {phase}", MakeSockets(), (SocketsMade,), _made, phase=phase)
    yield _job("by uid", _guard("nft-uid"), _in_force)
    yield _job("by iptables", _guard("iptables"), _in_force)
    yield _job("by iptables of the older kind", _guard("iptables"), _in_force, _older, "/run/xtables.lock")
    yield _job("what another agent left", _guard("nft-cgroup", leftovers=True), _in_force, _former)
    yield _job("a machine whose nft is in /sbin", _guard("nft-cgroup"), _in_force, _in("/sbin", "nft"), "/sbin")
    yield _job("a machine whose ss is in /bin", _guard("nft-cgroup"), _in_force, _in("/bin", "ss"), "/bin")
    yield _job("a machine with a real lib", _guard("nft-cgroup"), _in_force, with_a_real_lib, "/lib")
    yield _job("a machine with a real lib64", _guard("nft-cgroup"), _in_force, with_a_real_lib64, "/lib64")


def _guard(mechanism: Mechanism, *, leftovers: bool = False) -> GuardEgress:
    return GuardEgress(Rule(mechanism, "enforce", ADDRESS, **OURS[mechanism]), leftovers=leftovers)  # type: ignore[arg-type]


_NONE = GuardEgress(Rule("nft-cgroup", "enforce", ADDRESS, cgroup="no/such/group"))


def _job(
    name: str,
    request: Message,
    check: Callable[[Place, Reply], None],
    prepare: Callable[[Place], None] = nothing,
    about: str = "",
    phase: Phase = "boot",
) -> Scenario:
    def prepared(place: Place) -> None:
        place.finally_run("sh", "-c", ALL_RULES)
        prepare(place)

    final = (EgressGuarded, Committed, RefusalsHeard)
    return Scenario("egress", name, request, final, check, prepared, about=frozenset({about}), phase=phase)


def _in(folder: str, name: str) -> Callable[[Place], None]:
    return lambda place: with_programs_in(place, folder, (name,))


def _loaded(place: Place) -> None:
    place.run("nft", "add table ip agent_supervisor")


def _older(place: Place) -> None:
    for name in ("iptables", "iptables-restore"):
        place.link(f"/usr/sbin/{name}", OLDER)
    place.write("/run/xtables.lock", "", 0o600)


def _former(place: Place) -> None:
    place.run("nft", "add table ip walinuxagent")
    its = f"-d {ADDRESS} -p tcp --dport 53 -j ACCEPT"
    place.run("iptables", "-w", "-t", "security", "-A", "OUTPUT", *its.split())


def _in_force(_: Place, reply: Reply) -> None:
    assert "an outsider is refused" in reply.last(EgressGuarded).fact
    assert reply.last(EgressGuarded).ended == 0
    assert reply.last(EgressGuarded).lacking == ""


def _gone(_: Place, reply: Reply) -> None:
    assert "removed from nft" in reply.last(Committed).fact


def _heard(_: Place, reply: Reply) -> None:
    reply.last(RefusalsHeard)


def _failed(_: Place, reply: Reply) -> None:
    assert "No such file" in reply.last(CommitFailed).problem


def _made(_: Place, reply: Reply) -> None:
    reply.last(SocketsMade)
