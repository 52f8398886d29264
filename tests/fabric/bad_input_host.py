# SPDX-License-Identifier: Apache-2.0
"""Owns the bad hosts: late, silent, rude or wrong, for a while or for good, and what `ps` must say. Runs in tests."""

from collections.abc import Iterator

from tests.fabric.bad_input import (
    IDLE_CPU_S,
    NOTHING,
    PROVISIONED,
    Case,
    Play,
    Row,
    failures,
    pass_time,
    provisioned,
    stop,
)
from tests.fabric.udf_writer import make_udf
from tests.fabric.vm import PS_WITHIN_S, Vm, booted
from tests.fabric.waiting import until

GROUP = "host"
# The first second try comes two seconds, with jitter, after the first.
RECOVERED_S = 15.0
LATE_S = 3.0

# A fault that passes, by what it is, and what `ps` says of the host meanwhile ("": it passes too quickly to be said).
PASSING = {
    "no answer, connection closed": ("any:silence=0.5*1", "closed without an answer"),
    "reset": ("any:reset*1", "connection reset by peer"),
    "reset within the answer": ("goalstate:reset-body*1", "connection reset by peer"),
    "500": ("versions:status=500*1", "HTTP status 500"),
    "429, twice": ("any:status=429*2", "HTTP status 429"),
    "503 for the goal state": ("goalstate:status=503*1", "HTTP status 503"),
    "410 for a report": ("health:status=410*1", ""),
    "410 for the goal state": ("goalstate:status=410*1", "HTTP status 410"),
    "stale identity": ("health:invalid-container*1+1", ""),
    "truncated": ("versions:truncate*1", "unusable answer"),
    "Content-Length too short": ("goalstate:length-short*1", "document is unusable"),
    "Content-Length no number": ("versions:length-text*1", "unusable answer"),
    "Content-Length negative": ("versions:length-negative*1", "unusable answer"),
    "Content-Length of 30 digits": ("versions:length-enormous*1", "Content-Length"),
    "two Content-Lengths": ("goalstate:length-two*1", "unusable answer"),
    "8 MiB and a byte, versions": ("versions:huge*1", "longer than"),
    "8 MiB and a byte, goal state": ("goalstate:huge*1", "longer than"),
    "compressed": ("versions:gzip*1", "compressed"),
    "not HTTP": ("any:not-http*1", "unusable answer"),
    "slow drip that ends": ("any:drip=0.0005", ""),
    "reports accepted late: 503, three times": ("health:status=503*3+1", "POST /machine?comp=health: HTTP status 503"),
    "reports accepted late: each after 2 s": ("health:delay=2", ""),
}
# One that the report meets that provisioning starts: it may be in vain.
UNHEARD = {
    "first report refused": "health:redirect=http://10.0.0.1/*1",
    "410 for the first report, twice": "health:status=410*2",
}
# One that stays, and what `ps` says.
STAYING = {
    "connection refused": ("any:refuse", "connection refused"),
    "silence": ("any:silence", "no answer yet"),
    "reset, always": ("any:reset", "connection reset by peer"),
    "503, always": ("any:status=503", "HTTP status 503"),
    "slow drip": ("any:drip=1", "no answer yet"),
    "Content-Length too long": ("versions:length-long", "no answer yet"),
    "redirect": ("any:redirect=http://168.63.129.16/elsewhere", "HTTP status 302"),
    "endless headers": ("any:endless-headers", "headers"),
    "not HTTP, always": ("any:not-http", "unusable answer"),
}
PASSES = tuple(Case(GROUP, name, (words,) if words else (), ready=True) for name, (_, words) in PASSING.items())
STAYS = tuple(Case(GROUP, name, (words,)) for name, (_, words) in STAYING.items())
NOT_HEARD = tuple(
    Case(GROUP, name, ("does not accept the report that provisioning starts",), ready=True) for name in UNHEARD
)
LATE = Case(GROUP, "late: listens after 3 s", ("connection refused",), ready=True)
NO_ROLE = Case(GROUP, "role instance late: in the third goal state", ready=True)
FAILURE_HEARD_LATE = Case(GROUP, "late: listens after provisioning has failed", ("Environment",))


def host_text(vm: Vm) -> str:
    """What `ps` says of the host, empty while nobody answers."""
    snapshot = vm.ps_or_none()
    return snapshot.overview.host if snapshot is not None else ""


def word_of(vm: Vm, case: Case) -> str:
    """What `ps` says as soon as that has the words that it must have."""
    if not case.words:
        return ""
    return until(f"{case.words[0]!r} in ps", lambda: next((t for t in [host_text(vm)] if case.words[0] in t), ""))


def it_passes(cases: tuple[Case, ...]) -> Iterator[Row]:
    case = cases[0]
    with booted(faults=(PASSING[case.name][0],)) as vm:
        vm.boot(vm.wanted.medium())
        residents = vm.residents()
        said = word_of(vm, case)
        # That a Ready is a true one is judged where the host is late, and after those that stay.
        vm.scene.wait_until_ready(RECOVERED_S)
        assert (vm.readies(), vm.refused(), failures(vm)) == (1, [], [])
        assert vm.settled()[0] == residents[0]
        assert vm.ps().overview.counters.restarts == 0
        assert vm.slowest_ps_s < PS_WITHIN_S
        yield Row(case, f"{f'until then: {said}; then ' if said else ''}Ready", PROVISIONED)


def it_stays(cases: tuple[Case, ...]) -> Iterator[Row]:
    """One VM, one fault a start: nothing is applied, nothing spins; once the host is well, the last start is Ready."""
    rows = []
    with booted() as vm:
        for case in cases:
            vm.scene.steer(f"fault {STAYING[case.name][0]}")
            vm.boot(vm.wanted.medium())
            residents, said = vm.residents(), word_of(vm, case)
            until("the medium is read", lambda: "waits for the host" in vm.story())
            assert case.words[0] in vm.ps_command()
            assert pass_time(vm) < IDLE_CPU_S
            assert (vm.applied(), vm.scene.reports(), vm.residents()) == ([], [], residents)
            assert not [record for record in vm.scene.records() if record["target"] == "/elsewhere"]
            stop(vm)
            assert vm.slowest_ps_s < PS_WITHIN_S
            rows.append((case, said))
            vm.scene.steer("clear")
        vm.boot(None)
        afterwards = provisioned(vm)
    yield from (Row(case, said, NOTHING, afterwards) for case, said in rows)


def start_unheard(cases: tuple[Case, ...]) -> Iterator[Row]:
    case = cases[0]
    with booted(faults=(UNHEARD[case.name],)) as vm:
        vm.boot(vm.wanted.medium())
        left = provisioned(vm, RECOVERED_S, start_heard=False)
        said = next(line for line in vm.scene.log().splitlines() if case.words[0] in line)
        assert failures(vm) == []
        yield Row(case, f"in the log: {said.partition(' WARNING ')[2]}; then Ready", left)


def late(cases: tuple[Case, ...]) -> Iterator[Row]:
    with booted(host=False) as vm:
        vm.boot(vm.wanted.medium())
        said = word_of(vm, cases[0])
        pass_time(vm, LATE_S)
        vm.scene.start_host()
        yield Row(cases[0], f"until then: {said}; then Ready", provisioned(vm, RECOVERED_S))


def role_late(cases: tuple[Case, ...]) -> Iterator[Row]:
    with booted() as vm:
        vm.scene.steer("publish incomplete=2")
        vm.boot(vm.wanted.medium())
        yield Row(cases[0], "Ready", provisioned(vm))


def failure_heard_late(cases: tuple[Case, ...]) -> Iterator[Row]:
    with booted(host=False) as vm:
        vm.boot(make_udf(b"<Environment/>"))
        until("the failure", lambda: "failed: " in vm.story())
        vm.scene.start_host()
        vm.wait_until_decided(RECOVERED_S)
        reported = failures(vm)[-1]
        assert cases[0].words[0] in reported
        assert (vm.applied(), vm.refused()) == ([], [])
        stop(vm)
        vm.boot(vm.wanted.medium())
        yield Row(cases[0], reported, NOTHING, provisioned(vm))


PLAYS: tuple[Play, ...] = (
    *(Play(STAYS[first::3], it_stays) for first in range(3)),
    *(Play((case,), it_passes) for case in PASSES),
    *(Play((case,), start_unheard) for case in NOT_HEARD),
    Play((LATE,), late),
    Play((NO_ROLE,), role_late),
    Play((FAILURE_HEARD_LATE,), failure_heard_late),
)
