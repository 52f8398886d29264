# SPDX-License-Identifier: Apache-2.0
"""Owns one committed step: written down, carried out by its committer, written down as done; never done twice.

Runs in the supervisor. Nothing is ordered from a committer before the journal has it on disk.
"""

from collections.abc import Callable, Mapping

from ipc.codec import encode
from ipc.digest import sha256_hex
from ipc.errors import CommitError
from ipc.messages import (
    CommitAccount,
    CommitCustomData,
    CommitFailed,
    CommitHostName,
    CommitKeyPair,
    CommitKeys,
    CommitPassword,
    CommitRootLock,
    CommitSshd,
    CommitSudo,
    Committed,
    Message,
)
from supervisor.audit_log_entry import Audit, Entry, summary, unrecorded
from supervisor.fleet import Fleet
from supervisor.journal import Journal
from supervisor.records import StepDone, StepIntended

# Which OVF elements and options a step is there for: what a user can change when it fails.
ASKED_BY: Mapping[type[Message], str] = {
    CommitHostName: "HostName",
    CommitAccount: "UserName, OS.HomeDir",
    CommitPassword: "UserPassword",
    CommitSudo: "UserName, OS.SudoersDir",
    CommitSshd: "DisableSshPasswordAuthentication, OS.SshClientAliveInterval, OS.SshDir",
    CommitKeys: "PublicKey/Path",
    CommitKeyPair: "KeyPair/Path",
    CommitCustomData: "CustomData, Provisioning.ExecuteCustomData",
    CommitRootLock: "Provisioning.DeleteRootPassword, OS.PasswordPath",
}
# What these write is in force only once another step has put it in its place.
APART = frozenset({"SSH host keys"})
# More paths than this would make a line of the log unreadable; `ls` knows the rest.
MOST_TOLD = 16


class Steps:
    """Takes steps, one order of one committer each. `taken` has every order so far with the paths it wrote to, also
    those that an earlier start has carried out already (without paths).

    `changed`: whether any of them, now or on an earlier start, changed what is in force on this machine."""

    def __init__(
        self,
        fleet: Fleet,
        journal: Journal,
        say: Callable[[str, str, str], None],
        tell: Callable[[str], None],
        audit: Audit = unrecorded,
    ) -> None:
        """`say` is for the log; `tell` gets the name of the step that is being taken, for `ps`."""
        self.audit = audit
        self.taken: list[tuple[Message, tuple[str, ...]]] = []
        self._fleet = fleet
        self._journal = journal
        self._say = say
        self._tell = tell
        # Of an earlier start: what they changed, if anything, nobody has written down.
        self._earlier = frozenset(journal.state.steps) - APART
        self._changed = False

    @property
    def changed(self) -> bool:
        return self._changed or not self._earlier.isdisjoint(self._journal.state.steps)

    async def take(  # noqa: PLR0913 - an order and its conditions, each by its name
        self,
        step: str,
        kind: str,
        order: Message,
        at_work: Callable[[], None] = lambda: None,
        *,
        descriptors: tuple[int, ...] = (),
        deadline_s: float = float("inf"),
    ) -> Committed | None:
        """Have `order` carried out by a committer of `kind`. None when an earlier start has done the very same.

        `at_work`, `descriptors`, which stay the caller's, and `deadline_s` as for `Fleet.do`. CommitError when the
        committer failed; its text says what asked for the step, and what was changed."""
        digest = sha256_hex([encode(order, 0)])
        known = self._journal.state.steps.get(step)
        if known is not None and known.done and known.digest == digest:
            self.taken.append((order, ()))
            return None
        self._tell(step)
        self._journal.append(StepIntended(step, digest))
        name = type(order).__name__
        self.audit(Entry("commit", kind=kind, request=name, decision="intended", detail=summary(order)))
        received = await self._fleet.do(
            kind, order, descriptors, final=(Committed,), at_work=at_work, deadline_s=deadline_s
        )
        try:
            committed = self._committed(step, order, received[-1][0])
        except CommitError as error:
            self.audit(Entry("commit", kind=kind, request=name, decision="failed", detail=str(error)))
            raise
        self._journal.append(StepDone(step, digest))
        self.audit(Entry("commit", kind=kind, request=name, decision="done", detail=_success(step, committed)))
        self.taken.append((order, tuple(change.path for change in committed.changes)))
        self._say("info", "provisioning", _success(step, committed))
        return committed

    async def ask(self, kind: str, question: Message) -> Committed:
        """Have a committer of `kind` answer what changes nothing, so that nothing is written down; CommitError."""
        return self._committed(kind, question, (await self._fleet.do(kind, question, final=(Committed,)))[-1][0])

    def _committed(self, step: str, order: Message, answer: Message) -> Committed:
        """The good answer; CommitError for any other, noting what it left behind."""
        if isinstance(answer, CommitFailed):
            problem = _failure(step, order, answer, changed_before=self.changed)
            self._changed = self._changed or (answer.changed and step not in APART)
            raise CommitError(problem, changed=answer.changed, paths=answer.paths)
        if not isinstance(answer, Committed):
            raise CommitError(f"{step}: {type(answer).__name__} came back")
        self._changed = self._changed or (bool(answer.changes) and step not in APART)
        return answer


def _success(step: str, committed: Committed) -> str:
    """One line: the step, its fact, and the paths it wrote."""
    changes = committed.changes
    told = [f"{change.path} {change.mode:04o}" for change in changes[:MOST_TOLD]]
    paths = ", ".join(told) + (f" and {len(changes) - MOST_TOLD} more" if changes[MOST_TOLD:] else "")
    return " | ".join(text for text in (f"{step}: done", committed.fact, paths) if text)


def _failure(step: str, order: Message, answer: CommitFailed, *, changed_before: bool) -> str:
    """One line: the step, what asked for it, what is wrong, and what was changed."""
    asked_by = ASKED_BY.get(type(order))
    where = f"{step} ({asked_by})" if asked_by else step
    if not answer.changed:
        nothing = "this step changed nothing" if changed_before else "nothing was changed"
        return f"{where}: {answer.problem}; {nothing}"
    return f"{where}: {answer.problem}; this step changed {', '.join(answer.paths) or 'what it names'}"
