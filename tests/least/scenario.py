# SPDX-License-Identifier: Apache-2.0
"""Owns what a scenario is: the job of one kind of worker, what it finds, and how one sees that it was done.

Runs in the test. A scenario judges by files and answers alone; it knows nothing of policies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ipc.codec import decode, encode
from ipc.messages import Message
from tests.jail.rigged import Rig
from tests.least.place import Place

M = TypeVar("M", bound=Message)
Phase = Literal["boot", "provisioning", "steady"]


@dataclass(frozen=True)
class Reply:
    """What came of a trial: messages, what the descriptors of each hold, the worker's log; `problem` is how it ended
    instead."""

    messages: tuple[Message, ...]
    contents: tuple[tuple[bytes, ...], ...]
    log: str
    problem: str

    def last(self, kind: type[M]) -> M:
        """The final answer, which has to be one of `kind`."""
        assert not self.problem, f"{self.problem} {self.log[-1500:]}"
        answer = self.messages[-1]
        assert isinstance(answer, kind), f"answers {answer}"[:300]
        return answer


def nothing(_: Place) -> None:
    """Nothing has to be prepared."""


@dataclass(frozen=True)
class Scenario:
    """A job of `kind`. `check` asserts what has to be true afterwards.

    `about` names the grants that it is there for; any scenario may fail for any. `given` are descriptors:
    ("memfd", content), ("file", path) or ("record", path), the latter for writing, too."""

    kind: str
    name: str
    request: Message | None
    final: tuple[type[Message], ...]
    check: Callable[[Place, Reply], None]
    prepare: Callable[[Place], None] = nothing
    given: tuple[tuple[str, bytes | str], ...] = ()
    about: frozenset[str] = frozenset()
    phase: Phase = "provisioning"
    # Of the verifier: whom it looks at.
    of: str = ""

    def run(self, rig: Rig, place: Place, kind: str) -> None:
        """Have a worker of `kind`, a variant of its own, do it; AssertionError says what is wrong with the outcome."""
        try:
            self.prepare(place)
            reply = self._try(rig, kind)
            try:
                self.check(place, reply)
            except OSError as error:
                raise AssertionError(f"{error.strerror}: {error.filename}") from None
        finally:
            place.restore()

    def _try(self, rig: Rig, kind: str) -> Reply:
        if self.request is None:
            answer = rig.ask("check", kind=kind, phase=self.phase, of=self.of)
        else:
            given = [[how, what.hex() if isinstance(what, bytes) else what] for how, what in self.given]
            final = [each.__name__ for each in self.final]
            frame = encode(self.request, 0, 0).hex()
            answer = rig.ask("trial", kind=kind, phase=self.phase, frame=frame, given=given, final=final)
        return reply_of(answer)


def reply_of(answer: dict[str, Any]) -> Reply:
    """From what the rig says of a trial."""
    frames = answer.get("frames", [])
    problem = f"{answer['error']}: {answer['text']}" if "error" in answer else ""
    return Reply(
        tuple(decode(bytes.fromhex(frame)).message for frame in frames),
        tuple(tuple(bytes.fromhex(each) for each in contents) for contents in answer.get("contents", [])),
        "\n".join(answer.get("log", [])),
        problem,
    )


def first_about(scenarios: Sequence[Scenario], name: str) -> list[Scenario]:
    """`scenarios`, with those that are there for the grant `name` in front."""
    return sorted(scenarios, key=lambda scenario: name not in scenario.about)
