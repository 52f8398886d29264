# SPDX-License-Identifier: Apache-2.0
"""Owns the shape of the goal state that is in force, and of what is told of it; made by GoalStates, read by the
status reports and the commands. Pure.
"""

from typing import Literal

import msgspec

from ipc.messages import ExtensionsGoalState
from ipc.messages.extension_documents import ExtensionStatus
from ipc.messages.host_documents import Source
from supervisor.goal_state.settings import NO_SETTINGS, SettingsBundle

# goalStateAggregateStatus (wire-protocol.md 13).
OK, FAILED, UNSUPPORTED_FEATURES = 0, -1, 2001
# What the host gets for a handler that this version can't run. Vendors' own codes are small and positive.
NOT_RUN, UNUSABLE = -2, -1
HandlerWord = Literal["Ready", "NotReady", "Installing", "Unresponsive"]


class Outcome(msgspec.Struct, frozen=True):
    """How the goal state's processing ended: one of the codes above, the reason where it failed, and when (wall time,
    seconds since 1970)."""

    code: int
    message: str
    ended_s: float


class HandlerStatus(msgspec.Struct, frozen=True):
    """How one handler is, or one extension of a handler that has several: then `extension` is its name.

    `sequence_number` is that of its settings, None without settings; `settings` is what the extension says of itself,
    None where it was not asked: then the handler's own status stands for it."""

    name: str
    version: str
    status: HandlerWord
    code: int
    message: str
    sequence_number: int | None = None
    extension: str = ""
    settings: ExtensionStatus | None = None


class Adopted(msgspec.Struct, frozen=True):
    """The goal state in force. `id` is incarnation_N or etag_E; `etag` is empty where the WireServer sent it.

    `adopted_s` is wall time, seconds since 1970. `outcome` is None until it has been processed. An outdated one is
    reported on and not carried out (hostga-plugin.md 5.3); so is one that is on hold. `bundle` has what the spans in
    `goal_state` stand for: the two go together."""

    id: str
    source: Source
    incarnation: str
    etag: str
    goal_state: ExtensionsGoalState
    adopted_s: float
    handlers: tuple[HandlerStatus, ...] = ()
    outcome: Outcome | None = None
    is_outdated: bool = False
    is_on_hold: bool = False
    bundle: SettingsBundle = NO_SETTINGS

    @property
    def told_source(self) -> str:
        """Whose goal state it is, for people."""
        return "HostGAPlugin" if self.etag else "WireServer"

    @property
    def reported_sequence_number(self) -> str:
        """What status calls inSvdSeqNo: the incarnation, where the WireServer sent it (wire-protocol.md 6)."""
        return self.incarnation if not self.etag else self.goal_state.in_svd_sequence_number
