# SPDX-License-Identifier: Apache-2.0
"""The lab in which workers attack, with a policy that differs from ours only in whose code the parser runs."""

from collections.abc import Iterator

import pytest

from tests.abuse.ground import Ground
from tests.fabric.lab import Lab


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    with Lab() as lab:
        ground = Ground(lab)
        yield ground
        ground.clear()
