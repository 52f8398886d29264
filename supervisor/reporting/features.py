# SPDX-License-Identifier: Apache-2.0
"""Owns the features of a goal state that this agent has: what it advertises, and holds a goal state's demands against.

Pure. One list for both: who asks for a feature that was not advertised gets a refusal, and no half goal state.
"""

from ipc.messages import AgentFamily
from supervisor.compatibility import AGENT_VERSION, OWN_NAME
from supervisor.reporting.aggregate import Update

MULTI_CONFIG = "MultipleExtensionsPerHandler"
FAST_TRACK = "FastTrack"
# Not among them is VersioningGovernance: this agent is updated by the image's packages, never by the platform. The
# reference advertises it even where its configuration says no.


def supported(*, fast_track: bool) -> tuple[str, ...]:
    """What this agent can do now; `fast_track`: the HostGAPlugin has vmSettings, and they are not switched off."""
    return (MULTI_CONFIG, FAST_TRACK) if fast_track else (MULTI_CONFIG,)


def update(family: AgentFamily | None) -> Update | None:
    """What is told of the version that the host manages for `family`; None where it manages none.

    It is the version running that is told as expected, as the reference does (wire-protocol.md 13)."""
    if family is None or not family.is_vm_enabled_for_rsm_upgrades:
        return None
    if family.version in {"", AGENT_VERSION}:
        return Update(True, "")
    return Update(
        False, f"{family.version} is wanted: {OWN_NAME} is updated by the packages of its image, not by the platform"
    )
