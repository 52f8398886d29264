# SPDX-License-Identifier: Apache-2.0
"""Owns commands that are started exactly as a vendor's are, by the agent's own code: order, committer, unit, warden.

Runs in `prove`, as root, in the place of supervisor and committer. Its numbers are below zero, which the agent neither
counts nor looks at. It must never touch a command of another number.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, cast

import msgspec

from ipc.descriptors import sealed_memfd
from ipc.errors import AgentError, CommitError, StateError
from ipc.messages import CommitFailed, Message
from ipc.messages.extension_rules import HandlerClass
from policy.extensions import WITHOUT, slice_of
from supervisor.clock import SystemClock
from supervisor.extensions.commands import KIND, SYSTEMD, Commands, Keys, Order, Result, unit_of
from supervisor.layout import Layout
from supervisor.loop import Loop
from supervisor.prove.handler_attempts import Outcome
from supervisor.prove.handler_cases import CLASSES
from supervisor.prove.handler_ground import Ground

if TYPE_CHECKING:
    from supervisor.fleet import Fleet

PROGRAMS = ("systemd-run", "systemctl")
TIMEOUT_S = 300
_OWN = b"its own\n"
_WORK = "workers"


def can_run() -> bool:
    """Whether systemd runs here: elsewhere no vendor's command is."""
    return os.path.isdir(SYSTEMD)


def close(ground: Ground) -> None:
    """What systemd keeps of the handler's slice, in which nothing lives any more. AgentError."""
    _Committer().tools.run("systemctl", "stop", "--", slice_of(ground.handler))


def attempt(layout: Layout, logs: str, ground: Ground, handler_class: HandlerClass) -> list[Outcome]:
    """What came of all attempts that lie in the folder of `ground`'s handler, made by a command of that class.

    StateError when they were not made."""
    loop = Loop(SystemClock())
    keys = Keys(lambda _: sealed_memfd("key", _OWN), lambda _: sealed_memfd("certificate", _OWN))
    # Of a fleet it asks for one thing: a job of the committer's.
    commands = Commands(loop, cast("Fleet", _Committer()), layout, keys, logs)
    order = _order(ground, handler_class)
    done = loop.start("prove", _carried_out(commands, order))
    done.when_done(loop.stop)
    try:
        loop.run()
    finally:
        if not done.done:
            # Somebody has no more patience: nothing of it goes on.
            _Committer().tools.run("systemctl", "stop", "--", unit_of(order.number))
    result = done.result()
    if result.code:
        words = " ".join(result.output.split())
        raise StateError("prove", f"the command of class {handler_class} was not carried out: {words[-600:]}")
    with open(f"{ground.base}/{handler_class}.json", "rb") as file:
        return msgspec.json.decode(file.read(), type=list[Outcome])


async def _carried_out(commands: Commands, order: Order) -> Result:
    """Then unit, folder and keys are gone."""
    try:
        return await commands.run(order)
    finally:
        await commands.end(order.number)
        await commands.forget(order.number)


def _order(ground: Ground, handler_class: HandlerClass) -> Order:
    results = f"{handler_class}.json"
    line = f"exec {sys.executable} -I -m supervisor.prove.handler_within {ground.base} {results}"
    return Order(
        number=-(os.getpid() * len(CLASSES) + CLASSES.index(handler_class)),
        handler=ground.handler,
        version="1.0",
        extension="",
        sequence_number=0,
        verb="enable",
        line=line,
        timeout_s=TIMEOUT_S,
        environment=tuple(ground.environment.items()),
        base=ground.base,
        folders=(ground.handler,),
        thumbprint=ground.thumbprint,
        handler_class=handler_class,
        without=WITHOUT,
    )


class _Committer:
    """Its work and its companion's, done here: the same code. What it asks systemd for does not depend on how it is
    confined itself."""

    def __init__(self) -> None:
        # Not imported by name: nothing of the supervisor's knows a worker's.
        self._work = import_module(f"{_WORK}.committers.handler_start").on_order
        programs = import_module(f"{_WORK}.programs.main").Programs(PROGRAMS)
        self.tools = import_module(f"{_WORK}.committers.tools").Tools(programs.answer)

    async def do(self, kind: str, request: Message, **_: object) -> list[tuple[Message, tuple[int, ...]]]:
        """As Fleet.do: its answers with their descriptors."""
        if kind != KIND:
            raise CommitError(f"nobody here does the work of {kind}")
        try:
            answers = list(self._work(self.tools, request, ()))
        except AgentError as error:
            return [(CommitFailed(str(error), changed=False), ())]
        return [answer if isinstance(answer, tuple) else (answer, ()) for answer in answers]
