# SPDX-License-Identifier: Apache-2.0
"""The lab in which workers attack, with a policy that differs from ours only in whose code the parser runs."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.fabric.lab import Lab
from tests.jail.rigged import place_bait, place_policy, policy_sources

MODULES = {"workers.hostile": "tests.abuse.hostile"}


class Ground(NamedTuple):
    """A lab, and the policy's folder in it."""

    lab: Lab
    policy: str


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    with Lab() as lab:
        place_bait(lab)
        lab.output("install", "-m", "4755", "/usr/bin/id", "/usr/local/bin/setuid-id")
        sources = policy_sources(
            parser=('"workers.parser.main"', '"workers.hostile"'),
            provisioning=('"workers.provisioning.main"', '"workers.hostile"'),
        )
        yield Ground(lab, place_policy(lab, "hostile", sources))
