# SPDX-License-Identifier: Apache-2.0
"""Owns one committed step: written down, carried out by its committer, written down as done; never done twice.

Runs in the supervisor. Nothing is ordered from a committer before the journal has it on disk.
"""

from collections.abc import Callable

from ipc.codec import encode
from ipc.digest import sha256_hex
from ipc.errors import CommitError
from ipc.messages import CommitFailed, Committed, Message
from supervisor.fleet import Fleet
from supervisor.journal import Journal
from supervisor.records import StepDone, StepIntended


class Steps:
    """Takes steps, one order of one committer each."""

    def __init__(
        self, fleet: Fleet, journal: Journal, say: Callable[[str, str, str], None], tell: Callable[[str], None]
    ) -> None:
        """`say` is for the log; `tell` gets the name of the step that is being taken, for `ps`."""
        self._fleet = fleet
        self._journal = journal
        self._say = say
        self._tell = tell

    async def take(
        self, step: str, kind: str, order: Message, at_work: Callable[[], None] = lambda: None
    ) -> Committed | None:
        """Have `order` carried out by a committer of `kind`. None when an earlier start has done the very same.

        CommitError when the committer failed; what it says of that is in the text."""
        digest = sha256_hex([encode(order, 0)])
        known = self._journal.state.steps.get(step)
        if known is not None and known.done and known.digest == digest:
            return None
        self._tell(step)
        self._journal.append(StepIntended(step, digest))
        answer = (await self._fleet.do(kind, order, final=(Committed,), at_work=at_work))[-1][0]
        if isinstance(answer, CommitFailed):
            raise CommitError(f"{step}: {answer.problem}", changed=answer.changed)
        if not isinstance(answer, Committed):
            raise CommitError(f"{step}: {type(answer).__name__} came back")
        self._journal.append(StepDone(step, digest))
        paths = ", ".join(f"{change.path} {change.mode:04o}" for change in answer.changes)
        self._say("info", "provisioning", " | ".join(text for text in (f"{step}: done", answer.fact, paths) if text))
        return answer
