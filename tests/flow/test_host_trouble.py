# SPDX-License-Identifier: Apache-2.0
"""A host that is late, silent, rude or wrong: one Ready once it recovers, and a clear word in `ps` until then."""

from collections.abc import Iterator

import pytest

from tests.fabric.udf_writer import make_udf
from tests.fabric.vm import PS_WITHIN_S, Ahead, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

# The first second try comes two seconds, with jitter, after the first.
RECOVERED_S = 12.0

# A fault that passes, and what `ps` says of the host meanwhile ("": it passes too quickly to be said).
PASSING = {
    "any:refuse=1": "connection refused",
    "any:silence=0.5*1": "closed without an answer",
    "any:reset*1": "connection reset by peer",
    "any:status=500*1": "HTTP status 500",
    "any:status=429*2": "HTTP status 429",
    "goalstate:status=503*1": "HTTP status 503",
    "versions:truncate*1": "unusable answer",
    "goalstate:reset-body*1": "connection reset by peer",
    "versions:length-text*1": "unusable answer",
    "goalstate:length-two*1": "unusable answer",
    "versions:huge*1": "longer than",
    "goalstate:huge*1": "longer than",
    "versions:gzip*1": "compressed",
    "any:not-http*1": "unusable answer",
    "health:status=410*1": "",
    "health:invalid-container*1+1": "",
    "health:length-short*1": "",
    "any:drip=0.0005": "",
}
# One that stays, and what `ps` says.
STAYING = {
    "any:refuse": "connection refused",
    "any:silence": "no answer yet",
    "any:reset": "connection reset by peer",
    "any:status=503": "HTTP status 503",
    "versions:length-long": "no answer yet",
    "any:redirect=http://168.63.129.16/elsewhere": "HTTP status 302",
    "any:endless-headers": "headers",
    "any:not-http": "unusable answer",
}


def host_text(vm: Vm) -> str:
    """What `ps` says of the host, empty while nobody answers."""
    snapshot = vm.ps_or_none()
    return snapshot.overview.host if snapshot is not None else ""


def wait_for_word(vm: Vm, word: str) -> None:
    until(f"{word!r} in ps", lambda: word in host_text(vm))


def recover(fault: str) -> None:
    with booted(faults=(fault,)) as vm:
        vm.boot(vm.wanted.medium())
        if PASSING[fault]:
            wait_for_word(vm, PASSING[fault])
        assert vm.wait_until_decided(RECOVERED_S) == "Ready"
        assert (vm.mistakes(), vm.readies(), vm.refused()) == ([], 1, [])
        assert vm.slowest_ps_s < PS_WITHIN_S


def endure(fault: str) -> None:
    with booted(faults=(fault,)) as vm:
        vm.boot(vm.wanted.medium())
        residents = vm.residents()
        wait_for_word(vm, STAYING[fault])
        until("the medium is read", lambda: "waits for the host" in vm.story())
        assert STAYING[fault] in vm.ps_command()
        assert (vm.applied(), vm.scene.reports(), vm.residents()) == ([], [], residents)
        assert not [record for record in vm.scene.records() if record["target"] == "/elsewhere"]
        assert vm.scene.stop_agent(vm.agent) == 0
        assert vm.refused() == []
        assert vm.slowest_ps_s < PS_WITHIN_S


@pytest.fixture(scope="module")
def games() -> Iterator[Ahead[str]]:
    ahead = Ahead((*PASSING, *STAYING), lambda fault: recover(fault) if fault in PASSING else endure(fault))
    yield ahead
    ahead.close()


@pytest.mark.parametrize("fault", PASSING)
def test_a_host_that_recovers_gets_one_ready(games: Ahead[str], fault: str) -> None:
    games.check(fault)


@pytest.mark.parametrize("fault", STAYING)
def test_a_host_in_lasting_trouble_is_told_by_ps_and_nothing_is_applied(games: Ahead[str], fault: str) -> None:
    games.check(fault)


def test_a_document_that_its_parser_refuses_is_told_by_ps() -> None:
    with booted(faults=("goalstate:length-short*1",)) as vm:
        vm.boot(vm.wanted.medium())
        wait_for_word(vm, "the host's goal-state document is unusable")


def test_a_host_that_starts_late_gets_one_ready() -> None:
    with booted(host=False) as vm:
        vm.boot(vm.wanted.medium())
        wait_for_word(vm, "connection refused")
        vm.scene.start_host()
        assert vm.wait_until_decided(RECOVERED_S) == "Ready"
        assert (vm.mistakes(), vm.readies(), vm.refused()) == ([], 1, [])


def test_a_role_instance_that_comes_late_is_waited_for() -> None:
    with booted() as vm:
        vm.scene.steer("publish incomplete=2")
        vm.boot(vm.wanted.medium())
        assert vm.wait_until_decided() == "Ready"
        assert (vm.mistakes(), vm.readies(), vm.refused()) == ([], 1, [])


@pytest.mark.parametrize("fault", ["health:status=410*2", "health:redirect=http://10.0.0.1/*1"])
def test_a_refused_first_report_does_not_stop_provisioning(fault: str) -> None:
    with booted(faults=(fault,)) as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready(RECOVERED_S)
        assert [report.health.sub_status for report in vm.scene.reports()].count("ProvisioningFailed") == 0


def test_a_failure_is_reported_once_the_host_can_be_reached() -> None:
    with booted(host=False) as vm:
        vm.boot(make_udf(b"<Environment/>"))
        until("the failure", lambda: "failed: " in vm.story())
        vm.scene.start_host()
        assert "Environment" in vm.wait_until_decided(RECOVERED_S)
        assert (vm.applied(), vm.refused()) == ([], [])
