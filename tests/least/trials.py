# SPDX-License-Identifier: Apache-2.0
"""Owns one trial as the rig carries it out: a worker of the named kind, its job, everything that it answers.

Runs in the rig's second process. Nothing is tried twice: what ends a worker is what the test wants to hear.
"""

import os
from contextlib import suppress
from typing import Any

from ipc.codec import decode, encode
from ipc.descriptors import close_all
from ipc.errors import AgentError
from supervisor.fleet import _Job
from tests.fabric.vocabulary import BY_NAME
from tests.jail.rig_commands import Commands
from tests.least.rig_supervisor import descriptor_of

LARGEST_ANSWER = 1 << 20


class Trials(Commands):
    """The rig's commands, and three more."""

    async def on_trial(self, kind: str, phase: str, frame: str, given: list[Any], final: list[str]) -> dict[str, Any]:
        """One job by a worker of `kind`, in `phase`: its messages, each with what its descriptors hold."""
        self._enter(phase)
        descriptors = tuple(map(descriptor_of, given))
        try:
            worker = await self._fleet.start(kind)
            ends = tuple(BY_NAME[name] for name in (*final, "InputRefused", "CommitFailed"))
            worker.take_on(worker.deadline_s)
            job = _Job(decode(bytes.fromhex(frame)).message, descriptors, ends, lambda: None, None)
            received = await self._fleet._work(worker, job)
            await self._loop.settled(worker.exited)
        finally:
            close_all(descriptors)
        contents = [[_content(each) for each in attached] for _, attached in received]
        close_all([each for _, attached in received for each in attached])
        return {"frames": [encode(message, 0).hex() for message, _ in received], "contents": contents}

    async def on_insist(self, kind: str, phase: str, frames: list[str]) -> dict[str, Any]:
        """Messages that a worker gone astray sends, one after the other, as far as they are heard.

        The order is the frames themselves, which `tests.least.insistent` in the worker's place sends as they are."""
        self._enter(phase)
        worker = await self._fleet.start(kind)
        heard: list[str] = []
        try:
            worker.enter("working")
            for frame in frames:
                worker.channel.send(decode(bytes.fromhex(frame)).message)
            for _ in frames:
                message, attached = await worker.receive(2.0)
                close_all(attached)
                heard.append(type(message).__name__)
        except AgentError as error:
            return {"heard": heard, "problem": str(error)}
        finally:
            self._births.finish(worker)
        return {"heard": heard, "problem": ""}

    async def on_check(self, kind: str, phase: str, of: str) -> dict[str, Any]:
        """The judgement of a verifier of `kind` about a worker of `of`."""
        self._enter(phase)
        worker = await self._fleet._begin(of)
        checker = await self._fleet._begin(kind)
        try:
            await self._fleet._ready(worker)
            await self._fleet._verify(worker, checker)
        finally:
            self._births.finish(checker)
            self._births.finish(worker)
            for each in (checker, worker):
                await self._loop.settled(each.exited)
        return {"frames": [], "contents": []}

    def _enter(self, phase: str) -> None:
        """Any phase, from any other: trials come in no order."""
        self._births._table._phase = phase  # type: ignore[assignment] # one of the three


def _content(descriptor: int) -> str:
    with suppress(OSError):
        return os.pread(descriptor, LARGEST_ANSWER, 0).hex()
    return ""
