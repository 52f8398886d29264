# SPDX-License-Identifier: Apache-2.0
"""Owns whether all certificates that a goal state names are there, and how long that is waited for.

Runs in the supervisor.
"""

from collections.abc import Callable, Mapping

from supervisor.goal_state.adopted import Adopted
from supervisor.goal_state.choice import unknown_thumbprints


class Completeness:
    """`waits` is what is waited for, in a sentence; empty for nothing."""

    def __init__(self, known: Callable[[], Mapping[str, object]], say: Callable[[str, str, str], None]) -> None:
        """`known` gives the certificates of this VM by thumbprint."""
        self.waits = ""
        self._known = known
        self._say = say
        # The goal state that names certificates which nobody has sent, and is given one more period.
        self._lacking = ""

    def lacks(self, candidate: Adopted | None) -> tuple[str, ...]:
        """Certificates that `candidate` names and nobody has sent."""
        return () if candidate is None else unknown_thumbprints(candidate.goal_state, self._known())

    def is_given(self, candidate: Adopted) -> bool:
        """Whether they are all there, or have been waited for long enough (wire-protocol.md 4.1)."""
        lacking = self.lacks(candidate)
        if not lacking:
            return True
        text = f"{candidate.id} names certificates that this VM does not have: {', '.join(lacking)}"
        if self._lacking == candidate.id:
            self._say("warning", "goal state", f"{text}; it is put in force without them")
            return True
        self._lacking, self.waits = candidate.id, text
        self._say("info", "goal state", f"{text}; everything is asked for once more with the next poll")
        return False

    def settle(self) -> None:
        """Nothing is waited for any more."""
        self._lacking, self.waits = "", ""
