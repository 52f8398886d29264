# SPDX-License-Identifier: Apache-2.0
"""The matrix of controls and cases: whichever control is taken away, an attack succeeds that was stopped before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.prove.catalogue import DROPPABLE
from tests.fabric.lab import PROJECT, Lab
from tests.prove.__main__ import MATRIX, measured
from tests.prove.documents import matrix_row

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]  # on a machine that does nothing else each takes a second


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.mark.parametrize("control", DROPPABLE)
def test_what_a_control_alone_stops_is_as_the_document_says(control: str, lab: Lab) -> None:
    found = measured(lab, control)
    assert found[control]["flips"] != []
    row = matrix_row(control, found[control])
    assert row in Path(PROJECT, MATRIX).read_text(encoding="utf-8").splitlines()


def test_the_document_has_every_control() -> None:
    rows = Path(PROJECT, MATRIX).read_text(encoding="utf-8").splitlines()
    named = [row.split(" | ")[0].removeprefix("| ") for row in rows if row.count(" | ") == 3]
    assert named[1 : named.index("control of a class")] == [*DROPPABLE]
