# SPDX-License-Identifier: Apache-2.0
"""Owns noticing that a living ZeroMQ worker has no connection any more, and ending it instead of waiting for it.

Runs in the supervisor. libzmq cuts off without a word who sends what is no ZMTP, or more than a frame may have.
"""

import select
from collections.abc import Mapping

from ipc.channel import PacketChannel
from ipc.errors import MalformedMessage
from supervisor.loop import Loop
from supervisor.worker import Worker

LOOK_EVERY_S = 0.25
# One that is ending may be without for a moment.
LOOKS = 4
WHY = "cut off: it lives, but what it sent last was no ZMTP, or a frame over the limit, or it hung up"


class CutOff:
    """Looks only while a worker that speaks ZeroMQ is alive; idle means idle."""

    def __init__(self, loop: Loop, workers: Mapping[int, Worker]) -> None:
        self._loop = loop
        self._workers = workers
        # How many times in a row each was found without, by its serial number.
        self._without: dict[int, int] = {}
        self._looking = False

    def watch(self, worker: Worker) -> None:
        """From now on, as long as `worker` or another of its sort lives."""
        if not isinstance(worker.channel, PacketChannel) and not self._looking:
            self._looking = True
            self._loop.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        speakers = [worker for worker in self._workers.values() if not isinstance(worker.channel, PacketChannel)]
        self._looking = bool(speakers)
        before, self._without = self._without, {}
        for worker in speakers:
            if worker.state != "exited" and not worker.channel.is_connected and _lives(worker.pidfd):
                self._without[worker.serial] = before.get(worker.serial, 0) + 1
                if self._without[worker.serial] == LOOKS:
                    worker.condemn(MalformedMessage(WHY))
        if speakers:
            self._loop.call_later(LOOK_EVERY_S, self._look)


def _lives(pidfd: int) -> bool:
    """Whether the process is still there; it is not, either, before it was started."""
    if pidfd < 0:
        return False
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)
