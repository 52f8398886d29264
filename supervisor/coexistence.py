# SPDX-License-Identifier: Apache-2.0
"""Owns the decision which agent provisions this VM (provisioning.md 1). Pure: it reads nothing and starts nothing.

Used by the supervisor, at its start and once more before anything of the VM is changed.
"""

from typing import Literal

import msgspec

from ipc.errors import AgentError

AUTO, WAAGENT, CLOUD_INIT = "auto", "waagent", "cloud-init"


class TwoProvisioners(AgentError):
    """cloud-init would provision as well: two that make accounts and keys would undo each other's work."""


class Choice(msgspec.Struct, frozen=True):
    """Who provisions: this agent, cloud-init while this agent waits for what it makes, or nobody that is known here.

    `why` names the option and the value that decided; `conflict` why this agent may not, although it is to."""

    who: Literal["this agent", "cloud-init", "others"]
    why: str
    conflict: str = ""


def choose(enabled: bool, agent: str, cloud_init: str) -> Choice:
    """`enabled` and `agent` are Provisioning.Enabled and .Agent; `cloud_init` is what switches cloud-init on, empty if
    nothing does."""
    if not enabled:
        return Choice("others", "Provisioning.Enabled is n")
    why = f"Provisioning.Agent is {agent}"
    found = f"cloud-init is enabled by {cloud_init}" if cloud_init else "cloud-init is not enabled"
    if agent == CLOUD_INIT or (agent == AUTO and cloud_init):
        return Choice("cloud-init", f"{why}, {found}")
    if agent not in {AUTO, WAAGENT}:
        return Choice("others", why)
    conflict = (
        f"{why}, but {found} and would provision this VM as well; disable it, or set Provisioning.Agent to auto or "
        f"cloud-init"
    )
    return Choice("this agent", f"{why}, {found}", conflict if cloud_init else "")
