# SPDX-License-Identifier: Apache-2.0
"""Owns noticing that this process grows while it listens to ZeroMQ workers, and ending them when it does.

Runs in the supervisor. libzmq bounds the size of a message's part and the number of messages, but not the number of
parts: one message without an end fills the memory of whoever receives it, and is never handed over.
"""

import os
from collections.abc import Mapping

from ipc.channel import PacketChannel
from ipc.errors import MalformedMessage
from supervisor.jail import syscalls
from supervisor.loop import Loop
from supervisor.worker import Worker

# A connection brings a megabyte in a millisecond.
LOOK_EVERY_S = 0.01
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
        # Below this, what condemned workers left is given back; 0 when nothing is left.
        self._tidy_bytes = 0
        self._looking = False

    def watch(self, worker: Worker) -> None:
        """From now on, as long as `worker` or another of its sort lives."""
        if not isinstance(worker.channel, PacketChannel) and not self._looking:
            self._looking = True
            self._base_bytes = self._resident()
            self._loop.call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        speakers = [worker for worker in self._workers.values() if not isinstance(worker.channel, PacketChannel)]
        self._looking = bool(speakers)
        if not speakers:
            return
        now = self._resident()
        self._base_bytes = min(self._base_bytes, now)
        grown = now - self._base_bytes
        if grown > self._allowed_bytes:
            # Which of them it is can't be told from here: the honest ones' jobs are begun anew.
            for worker in speakers:
                worker.condemn(MalformedMessage(f"the supervisor grew by {grown >> 20} MiB while listening to it"))
            self._tidy_bytes = self._tidy_bytes or self._base_bytes + self._allowed_bytes // 2
            # Who comes after them is not to blame for it.
            self._base_bytes = now
        self._loop.call_later(LOOK_EVERY_S, self._look)

    def _resident(self) -> int:
        """What this process has now, without what libzmq has freed already, which malloc would keep."""
        if self._tidy_bytes:
            syscalls.trim_heap()
            if resident_bytes() < self._tidy_bytes:
                self._tidy_bytes = 0
        return resident_bytes()


def resident_bytes() -> int:
    """The memory that this process has now."""
    descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(descriptor, 128).split()[1]) * PAGE_BYTES
    finally:
        os.close(descriptor)
