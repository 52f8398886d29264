# SPDX-License-Identifier: Apache-2.0
"""A companion: finds and runs the programs that its policy names, for the one committer at the other end of its socket.

Confined like that committer, by a policy of its own. It must never run a program that its policy does not name, and
reads nothing of what a program prints.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial

from ipc.channel import Channel
from ipc.descriptors import read_sealed
from ipc.errors import BadDescriptor, CommitError, UnpermittedMessage
from ipc.messages import FindProgram, Message, ProgramFailed, ProgramFound, RunProgram
from ipc.provided import Main, Provided
from workers.programs import runner
from workers.programs.serving import serve

MAX_INPUT_BYTES = 64 * 1024


class Programs:
    """The programs called `names`, searched in `folders` only."""

    def __init__(self, names: Iterable[str], folders: Iterable[str] = runner.FOLDERS) -> None:
        self._names = frozenset(names)
        self._folders = tuple(folders)

    def answer(self, request: Message, descriptors: tuple[int, ...]) -> Message:
        """What became of `request`. ProtocolViolation for one that this policy's committer would never send."""
        if isinstance(request, FindProgram) and not descriptors:
            return ProgramFound(self._find(request.name))
        if isinstance(request, RunProgram):
            return self._run(request, _input(descriptors))
        raise UnpermittedMessage(f"{type(request).__name__} with {len(descriptors)} descriptors is no request here")

    def _find(self, name: str) -> str:
        if name not in self._names:
            raise UnpermittedMessage(f"policy names no program {name[:64]!r}")
        return runner.find(name, self._folders)

    def _run(self, request: RunProgram, stdin: int | None) -> Message:
        if any("\0" in argument for argument in request.arguments):
            raise UnpermittedMessage(f"an argument of {request.name} has a zero byte in it")
        path = self._find(request.name)
        if not path:
            return ProgramFailed(f"program {request.name} is not installed")
        try:
            return runner.run(path, request.arguments, request.patience_ms / 1000, stdin)
        except CommitError as error:
            return ProgramFailed(error.problem[:1000])


def _input(descriptors: tuple[int, ...]) -> int | None:
    """The one descriptor, at its beginning; BadDescriptor unless it is a small file that nobody can change."""
    if not descriptors:
        return None
    if len(descriptors) > 1:
        raise BadDescriptor(f"{len(descriptors)} descriptors for one standard input")
    read_sealed(descriptors[0], MAX_INPUT_BYTES)
    os.lseek(descriptors[0], 0, os.SEEK_SET)
    return descriptors[0]


def prepare(provided: Provided) -> Main:
    """The companion's main function, for the programs that its own policy names."""
    names = [program.name for program in provided.policies[provided.kind].profile.runs]
    return partial(main, names)


def main(names: Iterable[str], channel: Channel, lock: Callable[[], None]) -> None:
    """Companion entry."""
    serve(channel, lock, Programs(names).answer)
