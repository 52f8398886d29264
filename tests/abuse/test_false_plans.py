# SPDX-License-Identifier: Apache-2.0
"""Custom data that the provisioning worker made up is refused, whatever size it says, and with it the whole plan."""

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from ipc.messages import PlanProvisioning
from tests.abuse.false_plans import LIES
from tests.abuse.ground import Ground
from tests.jail.mutants import Mutation
from tests.unit.provisioning.samples import NOBODY, OPTIONS, OVF

pytestmark = pytest.mark.root

WITHOUT_THE_COMPARISON = Mutation(
    "supervisor.planning",
    "not _is_the_same(custom_data, text, decoded=request.options.decode_custom_data)",
    "False",
)
NOT_THE_OVFS, OTHER_SIZE = "the custom data is not the OVF's", "not the size that was proposed"
# The lie, and what the supervisor says of it.
FOUND_OUT = {
    "other_of_the_same_size": NOT_THE_OVFS,
    "longer": NOT_THE_OVFS,
    "shorter": NOT_THE_OVFS,
    "nothing": NOT_THE_OVFS,
    "longer_than_said": OTHER_SIZE,
    "still_encoded": NOT_THE_OVFS,
    "none_handed_over": "came with 0 descriptors",
    "a_second_one": "came with 2 descriptors",
}


def planned(
    ground: Ground, lie: str, *, decode: bool, mutations: tuple[Mutation, ...] = ()
) -> tuple[dict[str, Any], bytes]:
    """What came of a plan with that lie in it, and what was to be stored."""
    due = f"lie {lie} #!/bin/sh\nexec true\n".encode()
    request = PlanProvisioning(replace(OVF, has_custom_data=True), replace(OPTIONS, decode_custom_data=decode), NOBODY)
    text = b64encode(due) if decode else due
    return ground.rig(mutations).ask("plan", request=msgspec.to_builtins(request), text=text.decode()), due


def test_all_lies_are_told() -> None:
    assert set(LIES) == {"honest", *FOUND_OUT}


@pytest.mark.parametrize("decode", [True, False], ids=["decoded", "as it stands"])
def test_an_honest_one_is_taken(decode: bool, ground: Ground) -> None:
    answer, due = planned(ground, "honest", decode=decode)
    assert (answer.get("custom_data"), answer["violations"]) == (due.hex(), 0), answer


@pytest.mark.parametrize("decode", [True, False], ids=["decoded", "as it stands"])
@pytest.mark.parametrize("lie", FOUND_OUT)
def test_a_false_one_is_refused(lie: str, decode: bool, ground: Ground) -> None:
    answer, _ = planned(ground, lie, decode=decode)
    assert answer.get("error") in {"PlanRefused", "WorkerViolation"}, answer
    assert FOUND_OUT[lie] in answer["text"]


def test_without_the_comparison_it_would_be_stored(ground: Ground) -> None:
    answer, due = planned(ground, "other_of_the_same_size", decode=True, mutations=(WITHOUT_THE_COMPARISON,))
    assert answer.get("custom_data") == due.swapcase().hex()
