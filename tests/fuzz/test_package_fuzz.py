# SPDX-License-Identifier: Apache-2.0
"""Thousands of mutated packages: refused in a sentence, or unpacked to what the committer finds in order."""

import pytest

from tests.fuzz.package_target import TARGETS
from tests.fuzz.run import fuzz
from tests.fuzz.worker import LONGEST_S, MEMORY_BYTES

INPUTS = 3_000
# What keeps the fuzzer honest: so many different things the unpacker must have had to say.
KINDS = 60


@pytest.mark.timeout(300)  # on a machine that does nothing else it takes some seconds
@pytest.mark.parametrize("name", TARGETS)
def test_no_mutated_package_gets_further_than_it_may(name: str) -> None:
    report = fuzz(name, INPUTS)
    print(report)
    assert report.findings == []
    assert report.inputs == INPUTS
    assert report.slowest[0] < LONGEST_S
    assert report.peak_kib < MEMORY_BYTES // 1024
    assert len(report.outcomes) >= KINDS
    assert report.outcomes["accepted"] > INPUTS // 50
