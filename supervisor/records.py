# SPDX-License-Identifier: Apache-2.0
"""Owns the journal's records and what they add up to; used by the supervisor alone. Pure: it touches no file.

A record never holds a secret: a step is known by its name and the digest of its request.
"""

from typing import Annotated, Literal

import msgspec
from msgspec.structs import replace

from ipc.errors import StateError
from supervisor.extension_records import AnyExtensionRecord, Extensions

# As long as the path of a key can be, which a step is named by.
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1200)]
Digest = Annotated[str, msgspec.Meta(max_length=128)]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
Told = Annotated[str, msgspec.Meta(max_length=2048)]


class Step(msgspec.Struct, frozen=True):
    """How far a step has come: intended, then done."""

    digest: str
    done: bool = False


class GoalStateRun(msgspec.Struct, frozen=True):
    """How far a goal state has come: begun, then ended with a code and what is told of it, at a wall time (seconds
    since 1970). One is known by its id and when it was created: a host may count from 1 again."""

    id: str
    created: str
    ended: bool = False
    code: int = 0
    message: str = ""
    ended_s: float = 0.0

    def is_of(self, name: str, created: str) -> bool:
        """Whether it is the one with that id, created then."""
        return (self.id, self.created) == (name, created)


class JitAccount(msgspec.Struct, frozen=True):
    """How far an account that the platform has asked for is: what is no longer, or not yet, whole has to go. It ends at
    `expires_s`, wall time since 1970. `uid` is what it was made with, 0 as long as that is not known."""

    expires_s: int
    stage: Literal["begun", "made", "ending"]
    uid: int = 0


class State(msgspec.Struct, frozen=True):
    """What the journal says. Empty texts mean: not so far. `begun` and `finished` are VM ids."""

    begun: str = ""
    steps: dict[str, Step] = {}
    staged: str = ""
    fingerprint: str = ""
    finished: str = ""
    ready: bool = False
    failed: str = ""
    salt: str = ""
    jit: dict[str, JitAccount] = {}
    goal_state: GoalStateRun | None = None
    extensions: Extensions = Extensions()

    def records(self) -> tuple["AnyRecord", ...]:
        """The fewest records that add up to this state: what compaction writes."""
        kept: list[AnyRecord] = [ProvisioningBegun(self.begun)] if self.begun else []
        kept += [SaltDrawn(self.salt)] if self.salt else []
        for name, step in self.steps.items():
            kept.append(StepIntended(name, step.digest))
            if step.done:
                kept.append(StepDone(name, step.digest))
        if self.fingerprint:
            kept.append(HostKeysInstalled(self.fingerprint))
        if self.staged:
            kept.append(HostKeysStaged(self.staged))
        if self.finished:
            kept.append(ProvisioningFinished(self.finished))
        if self.ready:
            kept.append(ReadyAccepted())
        kept += [ProvisioningFailed(self.failed)] if self.failed else []
        kept += [JitAccountNoted(name, each.expires_s, each.stage, each.uid) for name, each in self.jit.items()]
        if self.goal_state is not None:
            kept += _of_goal_state(self.goal_state)
        return (*kept, *self.extensions.records())


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Base of all records."""

    def after(self, state: State) -> State:
        """The state when this record follows on `state`; StateError if it can't. This base changes nothing."""
        return state


class ProvisioningBegun(Record, frozen=True):
    """Provisioning starts for the VM with this id, starts again after a failure, or anew after it was finished."""

    vm_id: Name

    def after(self, state: State) -> State:
        # The same VM, not finished: what was done stays done. Else everything starts anew.
        goes_on = self.vm_id == state.begun and not state.finished
        # The accounts and the extensions of this disk stay, whose VM it was (provisioning.md 10.3).
        anew = State(begun=self.vm_id, jit=state.jit, extensions=state.extensions)
        return replace(state, failed="") if goes_on else anew


class SaltDrawn(Record, frozen=True):
    """The salt of this provisioning's password hash: no secret, it stands in the shadow file."""

    salt: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9]{64}$")]

    def after(self, state: State) -> State:
        return replace(state, salt=self.salt)


class StepIntended(Record, frozen=True):
    """The step is about to be acted on. `digest` tells a changed request from the same one."""

    step: Name
    digest: Digest

    def after(self, state: State) -> State:
        return replace(state, steps={**state.steps, self.step: Step(self.digest)})


class StepDone(Record, frozen=True):
    """The step's committer reported success."""

    step: Name
    digest: Digest

    def after(self, state: State) -> State:
        intended = state.steps.get(self.step)
        if intended is None or intended.digest != self.digest:
            raise StateError(f"step {self.step} is done, but this was never intended")
        return replace(state, steps={**state.steps, self.step: Step(self.digest, done=True)})


class HostKeysStaged(Record, frozen=True):
    """New SSH host keys are complete in the folder `staging`, not yet in their place."""

    staging: Line

    def after(self, state: State) -> State:
        return replace(state, staged=self.staging, fingerprint="")


class HostKeysInstalled(Record, frozen=True):
    """The keys are in their place."""

    fingerprint: Line

    def after(self, state: State) -> State:
        return replace(state, staged="", fingerprint=self.fingerprint)


class ProvisioningFinished(Record, frozen=True):
    """All steps are done for the VM with this id; the marker file may be written."""

    vm_id: Name

    def after(self, state: State) -> State:
        return replace(state, finished=self.vm_id, ready=state.ready and self.vm_id == state.finished, failed="")


class ReadyAccepted(Record, frozen=True):
    """The host took our Ready."""

    def after(self, state: State) -> State:
        return replace(state, ready=True)


class ProvisioningFailed(Record, frozen=True):
    """Provisioning ended without success; `problem` is what the host was told."""

    problem: Line

    def after(self, state: State) -> State:
        return replace(state, failed=self.problem)


class GoalStateBegun(Record, frozen=True):
    """The goal state `id`, created then, is about to be carried out; one that was begun before it and did not end is
    superseded."""

    id: Name
    created: Digest

    def after(self, state: State) -> State:
        return replace(state, goal_state=GoalStateRun(self.id, self.created))


class GoalStateEnded(Record, frozen=True):
    """It has been carried out, as far as it could be: `code` and `message` are what the host is told."""

    id: Name
    code: int
    message: Told
    ended_s: float

    def after(self, state: State) -> State:
        run = state.goal_state
        if run is None or run.id != self.id:
            raise StateError(f"goal state {self.id} has ended, but this was never begun")
        return replace(
            state,
            goal_state=GoalStateRun(run.id, run.created, True, self.code, self.message, self.ended_s),
        )


def _of_goal_state(run: GoalStateRun) -> "list[AnyRecord]":
    begun: AnyRecord = GoalStateBegun(run.id, run.created)
    return [begun, GoalStateEnded(run.id, run.code, run.message, run.ended_s)] if run.ended else [begun]


class JitAccountNoted(Record, frozen=True):
    """An account of the platform's is about to be made or removed, or is made."""

    name: Name
    expires_s: int
    stage: Literal["begun", "made", "ending"]
    uid: int = 0

    def after(self, state: State) -> State:
        return replace(state, jit={**state.jit, self.name: JitAccount(self.expires_s, self.stage, self.uid)})


class JitAccountGone(Record, frozen=True):
    """Nothing of it is left, or nothing was made."""

    name: Name

    def after(self, state: State) -> State:
        return replace(state, jit={name: account for name, account in state.jit.items() if name != self.name})


AnyRecord = (
    ProvisioningBegun
    | SaltDrawn
    | StepIntended
    | StepDone
    | HostKeysStaged
    | HostKeysInstalled
    | ProvisioningFinished
    | ReadyAccepted
    | ProvisioningFailed
    | JitAccountNoted
    | JitAccountGone
    | GoalStateBegun
    | GoalStateEnded
    | AnyExtensionRecord
)
