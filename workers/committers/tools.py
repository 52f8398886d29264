# SPDX-License-Identifier: Apache-2.0
"""Owns a committer's way to the distribution's programs: requests to its companion, which runs them.

Runs in committers, which can start nothing themselves. It must never put a secret into an argument list or into the
text of an error.
"""

import msgspec

from ipc.descriptors import close_all, sealed_memfd
from ipc.errors import CommitError, MalformedMessage, UnpermittedMessage
from ipc.messages import FindProgram, Message, ProgramEnded, ProgramFailed, ProgramFound, RunProgram
from workers.companion import Ask

OUTPUT_LIMIT = 600
PATIENCE_S = 25.0


class Outcome(msgspec.Struct, frozen=True):
    """How a program ended: exit status (negative: the signal) and what it printed, on either output, as it stood."""

    status: int
    text: str

    @property
    def output(self) -> str:
        """The start of it in one printable line."""
        line = " ".join(self.text.split())
        return "".join(character for character in line if character.isprintable())[:OUTPUT_LIMIT]


class Tools:
    """The programs that `ask` has run; each gets `patience_s` to finish."""

    def __init__(self, ask: Ask, patience_s: float = PATIENCE_S) -> None:
        self._ask = ask
        self._patience_s = patience_s

    def find(self, name: str) -> str:
        """The absolute path of program `name`, empty when this system has none."""
        found = self._ask(FindProgram(name), ())
        return found.path if isinstance(found, ProgramFound) else ""

    def run(self, name: str, *arguments: str, stdin: bytes = b"") -> Outcome:
        """Run `name` to its end. CommitError when it is missing, can't be started, or takes too long and is killed."""
        given = (sealed_memfd("input", stdin),) if stdin else ()
        try:
            answer = self._ask(RunProgram(name, arguments, int(self._patience_s * 1000)), given)
        except MalformedMessage as error:
            raise CommitError(f"{name} can't be told all that: {error}") from None
        finally:
            close_all(given)
        if isinstance(answer, ProgramEnded) and answer.timed_out:
            raise CommitError(f"{name} was killed: not finished after {self._patience_s:g} s")
        return Outcome(*ending(answer))

    def run_well(self, name: str, *arguments: str, stdin: bytes = b"") -> Outcome:
        """As `run`, but any exit status except 0 is a CommitError with the program's own words."""
        outcome = self.run(name, *arguments, stdin=stdin)
        if outcome.status != 0:
            raise CommitError(f"{name} ended with status {outcome.status}: {outcome.output or 'no output'}")
        return outcome


def ending(answer: Message) -> tuple[int, str]:
    """Status and output of what was run; CommitError with the companion's reason when nothing was."""
    if isinstance(answer, ProgramFailed):
        raise CommitError(answer.problem)
    if not isinstance(answer, ProgramEnded):
        raise UnpermittedMessage(f"{type(answer).__name__} says nothing about a program")
    return answer.status, answer.text
