# SPDX-License-Identifier: Apache-2.0
"""A provisioning medium that is absent, damaged or says the impossible: the host learns why, and nothing is applied."""

import pytest

from tests.fabric import bad_input_dvd, bad_input_ovf
from tests.fabric.bad_input import Case, Played
from tests.fabric.media import make_medium
from tests.fabric.vm import booted

pytestmark = pytest.mark.root
PLAYS = (*bad_input_dvd.PLAYS, *bad_input_ovf.PLAYS)


@pytest.mark.parametrize("case", [case for play in PLAYS for case in play.cases], ids=str)
def test_a_bad_medium_is_reported_and_the_next_start_provisions(played: Played, case: Case) -> None:
    assert played.row(case).case is case


def test_ps_shows_the_failure_and_the_next_start_mends_it() -> None:
    with booted() as vm:
        vm.boot(None)
        vm.wait_until_decided()
        assert "failed: no provisioning medium" in vm.ps_command()
        assert vm.scene.stop_agent(vm.agent) == 0
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert (vm.mistakes(), vm.readies()) == ([], 1)


@pytest.mark.parametrize("form", ["udf", "iso", "bridge", "wiped"])
def test_every_form_of_medium_is_read(form: str) -> None:
    with booted() as vm:
        vm.boot(make_medium(vm.wanted.ovf(), form))
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []
