# SPDX-License-Identifier: Apache-2.0
"""What `agent-supervisor goal-state` says of how far a goal state is."""

import msgspec
import pytest

from supervisor.cli.goal_state import lines
from supervisor.goal_state.shown import InForce, Shown

NOON = 1_790_000_000.0
EMPTY = {str: "", bool: False, float: 0.0, int: 0}
BEGUN = {each.name: EMPTY.get(each.type, ()) for each in msgspec.structs.fields(InForce)}


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({}, "under way since 2026-09-21 14:13:20 UTC"),
        ({"outdated": True}, "not carried out"),
        ({"on_hold": True}, "not carried out"),
        ({"ended": NOON + 60}, "processed, at 2026-09-21 14:14:20 UTC"),
        ({"ended": NOON, "code": 2001, "message": "lacks it"}, "code 2001: lacks it, at 2026-09-21 14:13:20 UTC"),
    ],
)
def test_the_outcome_is_told_or_how_far_it_is(changed: dict[str, object], outcome: str) -> None:
    one = msgspec.convert({**BEGUN, "id": "incarnation_2", "adopted": NOON, **changed}, InForce)
    assert f"outcome: {outcome}" in lines(Shown(one), cut=False, history=False)
