# SPDX-License-Identifier: Apache-2.0
"""A machine in trouble: it says which, half-done work is finished once it is mended, and the processes live on."""

import pytest

from tests.fabric import bad_input_machine
from tests.fabric.bad_input import Case, Played
from tests.fabric.bad_input_table import DOCUMENT, cases, listed

PLAYS = bad_input_machine.PLAYS


@pytest.mark.root
@pytest.mark.parametrize("case", [case for play in PLAYS for case in play.cases], ids=str)
def test_a_machine_in_trouble_is_reported_and_provisioned_once_mended(played: Played, case: Case) -> None:
    assert played.row(case).case is case


def test_the_document_lists_every_case_and_no_other() -> None:
    found = listed(DOCUMENT.read_text(encoding="utf-8"))
    assert sorted(found) == sorted((case.group, case.name) for case in cases())
