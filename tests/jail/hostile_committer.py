# SPDX-License-Identifier: Apache-2.0
"""A committer that its input has taken over: it asks its companion for what policy gives nobody, or acts by itself.

Runs in the sudoers committer's confinement, started by the real spawner under the name workers.hostile, beside the real
companion. What it finds out it writes to its log.
"""

import os
from collections.abc import Callable

from ipc.channel import Channel
from ipc.messages import CommitHostName, Committed, Message, ProgramEnded, RunProgram, RunScript, WorkerReady
from workers.companion import Ask, companion

EARLY = ""


def _asks(request: Message, given: int | None = None) -> Callable[[Ask, tuple[int, ...]], None]:
    """Sends `request`, with the descriptor number `given` of those that came with the order."""

    def attempt(ask: Ask, descriptors: tuple[int, ...]) -> None:
        answer = ask(request, () if given is None else (descriptors[given],))
        if not isinstance(answer, ProgramEnded):
            raise OSError(0, f"answered {answer}")

    return attempt


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


CASES: dict[str, Callable[[Ask, tuple[int, ...]], None]] = {
    "its own program": _asks(RunProgram("visudo", ("--version",), 5000)),
    "a program of another kind": _asks(RunProgram("chpasswd", ("-e",), 5000)),
    "a shell by a path": _asks(RunProgram("../../bin/sh", ("-c", ":"), 5000)),
    "a script": _asks(RunScript("/bin/true", False, 5), 1),
    "an input that may change": _asks(RunProgram("visudo", ("--version",), 5000), 1),
    "a program started here": lambda *_: os.execv("/bin/true", ["true"]),
    "a child": lambda *_: _fork(),
}


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """One order, whose host name says what to try."""
    with companion() as ask:
        _serve(ask, channel, lock)


def _serve(ask: Ask, channel: Channel, lock: Callable[[], None]) -> None:
    lock()
    channel.send(WorkerReady())
    order, descriptors = channel.receive()
    assert isinstance(order, CommitHostName)
    try:
        CASES[order.host_name](ask, descriptors)
    except OSError as error:
        os.write(2, f"{order.host_name}: denied {error}\n".encode())
    else:
        os.write(2, f"{order.host_name}: succeeded\n".encode())
    channel.send(Committed(()))
