# SPDX-License-Identifier: Apache-2.0
"""Owns goal states and facts as tests on what the host is told need them."""

from typing import Any

import msgspec

from ipc.messages import ExtensionsGoalState, StatusBlob
from supervisor.goal_state.adopted import OK, Adopted, HandlerStatus, Outcome
from supervisor.reporting.aggregate import Facts
from supervisor.reporting.machine import Machine

BLOB = StatusBlob("https://store.example/status/vm.status?sv=2018&sig=c2VjcmV0", "BlockBlob")
MACHINE = Machine("debian", "12", "bookworm", "6.1.0", "x86_64", 2, 2048)
GOAL_STATE = ExtensionsGoalState(
    source="Fabric",
    created="2026-01-02T03:04:05.000000Z",
    in_svd_sequence_number="7",
    activity_id="",
    correlation_id="",
    on_hold=False,
    status_blob=BLOB,
    profile_url="",
    required_features=(),
    families=(),
    plugins=(),
)
HANDLER = HandlerStatus("Publisher.Type", "1.2.3", "NotReady", -2, "not carried out", 5)


def adopted(*handlers: HandlerStatus, **changes: Any) -> Adopted:
    """A goal state of the WireServer's that was carried out."""
    made = Adopted("incarnation_3", "Fabric", "3", "", GOAL_STATE, 1.0, handlers, Outcome(OK, "done", 86400.0))
    return msgspec.structs.replace(made, **changes)


def facts(goal_state: Adopted | None, **changes: Any) -> Facts:
    """What a status tells of a machine with `goal_state`."""
    made = Facts(MACHINE, "vm-demo", goal_state, ("MultipleExtensionsPerHandler",))
    return msgspec.structs.replace(made, **changes)
