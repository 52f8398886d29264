# SPDX-License-Identifier: Apache-2.0
"""The lab that the jail's tests share within a file, and in it a rig under the policy as it is shipped."""

from collections.abc import Iterator

import pytest

from tests.fabric.lab import Lab
from tests.jail.rigged import Rig, place_bait, place_policy, policy_sources


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        place_bait(lab)
        yield lab


@pytest.fixture(scope="module")
def rig(lab: Lab) -> Iterator[Rig]:
    with Rig(lab, place_policy(lab, "plain", policy_sources())) as rig:
        yield rig
