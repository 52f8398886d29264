# SPDX-License-Identifier: Apache-2.0
"""Thousands of mutated inputs of every format: only InputError comes out of a reader, soon, and never the password."""

import pytest

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import LONGEST_S, MEMORY_BYTES

INPUTS = 10_000
# Of the documents that come once the VM is at work, by the same few readers of XML and JSON.
FEWER = 4_000
# What keeps the fuzzers honest: so many different things the readers must have had to say, beside what they accepted.
KINDS = {"udf": 80, "iso": 14, "ovf": 30, "goal-state": 25, "versions": 20, "key-status": 100, "channel-key": 40}
AT_WORK = {
    "extensions-config": 18, "vm-settings": 150, "certificate-file": 18, "hosting-environment": 15, "remote-access": 16,
    "artifacts-profile": 1, "instance-metadata": 40, "plugin-versions": 16, "event-file": 12, "event-record": 12,
    "package-manifest": 10, "handler-manifest": 10, "status-file": 1, "heartbeat": 10, "extension-policy": 10,
}  # fmt: skip


@pytest.mark.timeout(300)  # on a machine that does nothing else it takes some seconds
@pytest.mark.parametrize("name", TARGETS)
def test_no_mutated_input_gets_more_than_a_refusal_out(name: str) -> None:
    inputs = FEWER if name in AT_WORK else INPUTS
    report = fuzz(name, inputs)
    print(report)
    assert report.findings == []
    assert report.inputs == inputs
    assert report.slowest[0] < LONGEST_S
    assert report.peak_kib < MEMORY_BYTES // 1024
    assert len(report.outcomes) >= (KINDS | AT_WORK)[name]
    assert report.outcomes["accepted"] > inputs // 50
