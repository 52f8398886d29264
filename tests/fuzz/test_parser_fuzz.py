# SPDX-License-Identifier: Apache-2.0
"""Ten thousand mutated inputs of every format: only InputError comes out of a reader, soon, and never the password."""

import pytest

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import LONGEST_S, MEMORY_BYTES

INPUTS = 10_000
# What keeps the fuzzers honest: so many different things the readers must have had to say, beside what they accepted.
KINDS = {"udf": 80, "iso": 14, "ovf": 30, "goal-state": 25, "versions": 20}


@pytest.mark.timeout(300)  # on a machine that does nothing else it takes some seconds
@pytest.mark.parametrize("name", TARGETS)
def test_no_mutated_input_gets_more_than_a_refusal_out(name: str) -> None:
    report = fuzz(name, INPUTS)
    print(report)
    assert report.findings == []
    assert report.inputs == INPUTS
    assert report.slowest[0] < LONGEST_S
    assert report.peak_kib < MEMORY_BYTES // 1024
    assert len(report.outcomes) >= KINDS[name]
    assert report.outcomes["accepted"] > INPUTS // 50
