# SPDX-License-Identifier: Apache-2.0
"""What crosses a process boundary, changed ten thousand times: refused as such, or taken for what it is; never more."""

import pytest

from ipc.messages import CATALOGUE
from tests.fuzz.channel_targets import COSTS, TARGETS, draw_for
from tests.fuzz.run import fuzz
from tests.fuzz.shapes import SHAPES, fields
from tests.fuzz.worker import LONGEST_S, MEMORY_BYTES

INPUTS = 10_000
CONNECTIONS = 2_000
# What keeps the fuzzers honest: so many different things the readers must have had to say.
KINDS = {"msgpack": 100, "messages": 500, "records": 12, "zmtp": 20}
GOOD = {"msgpack": "accepted", "messages": "accepted", "records": "accepted", "zmtp": "WorkerReady, Versions, quiet"}


@pytest.mark.timeout(300)  # on a machine that does nothing else it takes some seconds
@pytest.mark.parametrize("name", TARGETS)
def test_no_changed_input_gets_more_than_a_refusal_out(name: str) -> None:
    inputs = CONNECTIONS if name in COSTS else INPUTS
    report = fuzz(name, inputs)
    print(report)
    assert report.findings == []
    assert report.inputs == inputs
    assert report.slowest[0] < LONGEST_S
    assert report.peak_kib < MEMORY_BYTES // 1024
    assert len(report.outcomes) >= KINDS[name]
    assert report.outcomes[GOOD[name]] > inputs // 50


def test_every_message_type_is_made() -> None:
    """By its own description, a new one as well, patterns included."""
    assert set(SHAPES) == set(CATALOGUE)
    for name, shape in SHAPES.items():
        assert fields(shape, draw_for(name, 0)).keys() <= {field.name for field in shape.fields}
