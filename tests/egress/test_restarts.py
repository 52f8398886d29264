# SPDX-License-Identifier: Apache-2.0
"""A supervisor that is killed again and again while it asks the host: its own rule never refuses it a packet."""

import pytest

from tests.egress.restarts import series

pytestmark = pytest.mark.root


def test_no_packet_of_ours_is_refused_and_the_host_sees_every_request() -> None:
    counts = series(lives=5, requests=60)
    assert (counts.refused, counts.failed, counts.half_closed) == (0, 0, 0)
    # Of each life at most one request was under way when it ended, which the host may have seen.
    assert counts.answered >= 5 * 59
    assert counts.answered <= counts.seen <= counts.begun <= counts.answered + counts.lives + 1
