# SPDX-License-Identifier: Apache-2.0
"""Owns the question whether the VM is on hold, by the artifacts profile that a goal state names (wire-protocol.md 7).

Runs in the supervisor. Whatever is wrong with the profile: the VM is not on hold.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from ipc.errors import AgentError
from ipc.messages import ArtifactsProfile, ParseArtifactsProfile
from supervisor.contact import Contact
from supervisor.loop import Promise

MOST_BYTES = 1 << 20
# No goal state is put in force meanwhile.
BUDGET_S = 20.0
WHAT = "the artifacts profile"


class Artifacts(Protocol):
    """Whoever fetches it, by whatever channel."""

    def fetch(
        self, urls: Sequence[str], what: str, *, most_bytes: int, budget_s: float
    ) -> Coroutine[Promise[Any], None, bytes]: ...


class OnHold:
    """Asks for profiles."""

    def __init__(self, artifacts: Artifacts, contact: Contact, say: Callable[[str, str, str], None]) -> None:
        self._artifacts = artifacts
        self._contact = contact
        self._say = say

    async def ask(self, url: str) -> bool:
        """What the profile at `url` says. Never raises AgentError."""
        try:
            document = await self._artifacts.fetch([url], WHAT, most_bytes=MOST_BYTES, budget_s=BUDGET_S)
            if not document.rstrip(b"\0 \r\n\t"):
                return False
            request = ParseArtifactsProfile()
            profile = await self._contact.parse(request, "artifacts-profile", document, ArtifactsProfile)
        except AgentError as error:
            return self._not_on_hold(str(error))
        return self._not_on_hold(f"{WHAT}: {profile.problem}") if profile.problem else profile.on_hold

    def _not_on_hold(self, problem: str) -> bool:
        self._say("warning", "goal state", f"{problem}; the VM counts as not on hold")
        return False
