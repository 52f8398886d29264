# SPDX-License-Identifier: Apache-2.0
"""Owns the journal's records and what they add up to; used by the supervisor alone. Pure: it touches no file.

A record never holds a secret: a step is known by its name and the digest of its request.
"""

from typing import Annotated

import msgspec
from msgspec.structs import replace

from ipc.errors import StateError

# As long as the path of a key can be, which a step is named by.
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1200)]
Digest = Annotated[str, msgspec.Meta(max_length=128)]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]


class Step(msgspec.Struct, frozen=True):
    """How far a step has come: intended, then done."""

    digest: str
    done: bool = False


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
        return tuple(kept)


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
        return replace(state, failed="") if goes_on else State(begun=self.vm_id)


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
)
