# SPDX-License-Identifier: Apache-2.0
"""Owns what a committer and its companion say to each other: which program to run, and how it ended.

Neither end is the supervisor's; who is at the other end is known from the socket, which the spawner made for the two.
"""

from typing import Annotated

import msgspec

from ipc.messages.base import Message, Name, Short

# Of one frame, with room for what stands around it; longer output is cut.
LONGEST_TEXT = 60_000
Argument = Annotated[str, msgspec.Meta(max_length=4096)]
A_DAY_S = 86_400


class FindProgram(Message, frozen=True):
    """Committer to companion: where is the program `name`? The answer is ProgramFound."""

    name: Name


class RunProgram(Message, frozen=True):
    """Committer to companion: run the program `name` to its end; it is killed after `patience_ms`.

    One descriptor if it is to read something: a sealed memfd, its standard input. What is secret goes there alone.
    The answer is ProgramEnded or ProgramFailed."""

    name: Name
    arguments: Annotated[tuple[Argument, ...], msgspec.Meta(max_length=300)]
    patience_ms: Annotated[int, msgspec.Meta(ge=1, le=A_DAY_S * 1000)]


class RunScript(Message, frozen=True):
    """Committer to companion: run the tenant's own program at `path`, by /bin/sh or as it is; killed after `timeout_s`.

    One descriptor: the file that its output goes to. The answer is ProgramEnded or ProgramFailed."""

    path: Short
    with_shell: bool
    timeout_s: Annotated[int, msgspec.Meta(ge=1, le=A_DAY_S)]


class ProgramFound(Message, frozen=True):
    """Companion to committer: its absolute path, empty when this system has none."""

    path: Short


class ProgramEnded(Message, frozen=True):
    """Companion to committer: exit status (negative: the signal), and what was printed on either output, cut.

    `timed_out`: it was killed because its time was over."""

    status: int
    text: Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)] = ""
    timed_out: bool = False


class ProgramFailed(Message, frozen=True):
    """Companion to committer: nothing was run, and why."""

    problem: Short
