# SPDX-License-Identifier: Apache-2.0
"""A host that is late, silent, rude or wrong: one Ready once it recovers, and a clear word in `ps` until then."""

import pytest

from tests.fabric import bad_input_host
from tests.fabric.bad_input import Case, Played

pytestmark = pytest.mark.root
PLAYS = bad_input_host.PLAYS


@pytest.mark.parametrize("case", [case for play in PLAYS for case in play.cases], ids=str)
def test_a_bad_host_is_told_by_ps_and_endured(played: Played, case: Case) -> None:
    assert played.row(case).case is case
