# SPDX-License-Identifier: Apache-2.0
"""Owns noticing that this process grows while it listens to ZeroMQ workers, and ending them when it does.

Runs in the supervisor. libzmq bounds the size of a message's part and the number of messages, but not the number of
parts: one message without an end fills the memory of whoever receives it, and is never handed over.
"""

import os
from collections.abc import Mapping

from ipc.channel import ZmqChannel
from ipc.errors import MalformedMessage
from supervisor.loop import Loop
from supervisor.worker import Worker

LOOK_EVERY_S = 0.05
# What an honest exchange may add for a moment: documents of a few megabytes, in copies.
ALLOWED_BYTES = 48 << 20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Appetite:
    """Looks only while a worker that speaks ZeroMQ is alive; idle means idle."""

    def __init__(self, loop: Loop, workers: Mapping[int, Worker], *, allowed_bytes: int = ALLOWED_BYTES) -> None:
        self._loop = loop
        self._workers = workers
        self._allowed_bytes = allowed_bytes
        self._base_bytes = 0
        self._looking = False

    def watch(self, worker: Worker) -> None:
        """From now on, as long as `worker` or another of its sort lives."""
        if isinstance(worker.channel, ZmqChannel) and not self._looking:
            self._looking = True
            self._base_bytes = resident_bytes()
            self._loop.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        speakers = [worker for worker in self._workers.values() if isinstance(worker.channel, ZmqChannel)]
        self._looking = bool(speakers)
        if not speakers:
            return
        grown = resident_bytes() - self._base_bytes
        if grown > self._allowed_bytes:
            # Which of them it is can't be told from here: the honest ones' jobs are begun anew.
            for worker in speakers:
                worker.condemn(MalformedMessage(f"the supervisor grew by {grown >> 20} MiB while listening to it"))
        self._loop.call_later(LOOK_EVERY_S, self._look)


def resident_bytes() -> int:
    """The memory that this process has now."""
    descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(descriptor, 128).split()[1]) * PAGE_BYTES
    finally:
        os.close(descriptor)
