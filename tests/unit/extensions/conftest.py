# SPDX-License-Identifier: Apache-2.0
"""One life of the supervisor after the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.extensions.machine import Boot, Machine


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Boot]:
    """A fresh life of the supervisor on the same disk, the one before it gone."""
    lives: list[Machine] = []

    def begin(**more: object) -> Machine:
        for life in lives:
            life.journal.close()
        lives.append(Machine(tmp_path, **more))  # type: ignore[arg-type]
        return lives[-1]

    yield begin
    for life in lives:
        life.journal.close()
