# SPDX-License-Identifier: Apache-2.0
"""Takes the supervisor's place for the bench: has the real fleet start, use and replace parsers, and times that.

Runs in a lab, started by the real spawner and confined as the supervisor is. Its argument is a file with `Jobs` as
JSON. Workers, channels, loop and verification are the agent's own.
"""

import os
import random
import select
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from ipc.descriptors import close_all
from ipc.errors import AgentError
from ipc.messages import Ovf, ParseMedium, WorkerReady
from policy.load import load
from supervisor.births import Births
from supervisor.clock import SystemClock
from supervisor.dispatch import Table
from supervisor.files import make_folder
from supervisor.fleet import Fleet
from supervisor.layout import Layout
from supervisor.loop import Loop, Promise
from supervisor.main import SPAWNER_FD
from supervisor.restarts import Intensity, Restarts
from supervisor.worker import Worker
from tests.bench.fleet_jobs import KIND, READ_IN, Jobs, Timings, profiles, with_parsers_by_exec

PATIENCE_S = 10.0
# The first workers find nothing in the kernel's caches.
WARM_UP = 2
# On a busy machine a parser may be done before the kill reaches it; then that one doesn't count.
MOST_TOO_QUICK = 50


class BenchError(AgentError):
    """What was to be measured did not happen."""


class WatchedFleet(Fleet):
    """The fleet, telling of each worker that has answered, and that is about to be given its job."""

    on_started: Callable[[Worker], None] = staticmethod(lambda worker: None)
    on_ready: Callable[[Worker], None] = staticmethod(lambda worker: None)

    async def start(self, kind: str) -> Worker:
        """As Fleet.start."""
        worker = await super().start(kind)
        self.on_started(worker)
        return worker

    async def _ready(self, worker: Worker) -> None:
        await super()._ready(worker)
        self.on_ready(worker)


class Driver:
    """One run of all jobs."""

    def __init__(self, loop: Loop, jobs: Jobs) -> None:
        layout = Layout()
        for folder, mode in ((layout.run, 0o755), (layout.channels, 0o711)):
            make_folder(folder, mode)
        self._loop = loop
        self._jobs = jobs
        policy = load()
        self._profiles = profiles(with_parsers_by_exec(policy) if jobs.by_exec else policy)
        table = Table(self._profiles.values())
        table.advance("provisioning")
        self._births = Births(loop, table, socket.socket(fileno=SPAWNER_FD), layout, self._say)
        self._again: list[float] = []
        self._read: list[float] = []
        self._too_quick = 0
        self._fleet = WatchedFleet(loop, self._profiles, self._births, random.random, self._say)

    async def run(self, timings: Timings) -> None:
        """Every job as often as was asked for."""
        timings.answering = await self._repeat(self._jobs.starts, self._answering)
        if self._jobs.unconfined:
            # Such a worker answers; whoever looks at it finds out, and gives it no work.
            return
        timings.verified = await self._repeat(self._jobs.starts, self._verified)
        timings.parsed = await self._repeat(self._jobs.parses, self._parsed)
        timings.replaced = await self._repeat(self._jobs.kills, self._replaced)
        timings.again = tuple(self._again[WARM_UP:])
        timings.read = tuple(self._read[WARM_UP:])

    async def _repeat(
        self, times: int, measure: Callable[[], Coroutine[Promise[Any], None, float]]
    ) -> tuple[float, ...]:
        """Seconds of each, after a few that don't count; each begins when nothing of the one before is left."""
        seconds = []
        for _ in range(times + WARM_UP if times else 0):
            seconds.append(await measure())
            for worker in list(self._births.workers.values()):
                await self._loop.within(worker.exited, PATIENCE_S)
        return tuple(seconds[WARM_UP:])

    async def _answering(self) -> float:
        """From the order to the worker's first word, which it says confined, over its own channel."""
        start = self._now()
        worker = self._births.begin(self._profiles[KIND], 0)
        message, _ = await worker.receive(PATIENCE_S)
        seconds = self._now() - start
        if not isinstance(message, WorkerReady):
            raise BenchError(f"{worker.name} said {type(message).__name__}")
        self._births.finish(worker)
        return seconds

    async def _verified(self) -> float:
        start = self._now()
        worker = await self._fleet.start(KIND)
        seconds = self._now() - start
        self._births.finish(worker)
        return seconds

    async def _parsed(self) -> float:
        start = self._now()
        await self._parse(self._jobs.medium)
        return self._now() - start

    async def _replaced(self) -> float:
        """The first worker is killed as soon as it has its job; the second may finish it."""
        killed: list[float] = []
        answered: list[float] = []
        replaced: list[float] = []

        def kill(worker: Worker) -> None:
            killed.append(self._now())
            self._births.kill(worker)

        def started(worker: Worker) -> None:
            if killed:
                replaced.append(self._now())
            else:
                # On the loop's next turn: by then the fleet has handed over the job.
                self._loop.call_later(0, lambda: kill(worker))

        def ready(worker: Worker) -> None:
            if killed and worker.kind == KIND:
                answered.append(self._now())

        self._fleet.on_started, self._fleet.on_ready = started, ready
        # Each kill counts as the first: from the second on a replacement waits, by the rule for restarts.
        self._fleet.restarts[KIND] = Restarts(Intensity(), random.random)
        await self._parse(self._jobs.long_medium)
        self._fleet.on_started = self._fleet.on_ready = lambda worker: None
        if len(replaced) != 1 or len(answered) != 1:
            self._too_quick += 1
            if self._too_quick > MOST_TOO_QUICK:
                raise BenchError("the parser is quicker than its killer")
            return await self._replaced()
        self._again.append(answered[0] - killed[0])
        return replaced[0] - killed[0]

    async def _parse(self, path: str) -> None:
        medium = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            request = ParseMedium("udf", os.fstat(medium).st_size)
            answer, attached = (await self._fleet.do(KIND, request, (medium,), final=(Ovf,)))[-1]
        finally:
            os.close(medium)
        close_all(list(attached))
        if not isinstance(answer, Ovf):
            raise BenchError(f"the parser said {answer}")

    def _say(self, level: str, source: str, text: str) -> None:
        """To where the measuring side reads; but not of workers that die on the job: that is this program's doing."""
        if text.startswith(READ_IN):
            self._read.append(float(text.removeprefix(READ_IN)))
        elif level != "warning":
            sys.stderr.write(f"{source}: {text}\n")

    def _now(self) -> float:
        return self._loop.clock.monotonic()


def main() -> int:
    """All jobs, then the results, then the wait for SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    jobs = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Jobs)
    timings = Timings()
    loop = Loop(SystemClock())
    driver = Driver(loop, jobs)
    outcome = loop.start("bench", driver.run(timings))
    outcome.when_done(loop.stop)
    loop.run()
    try:
        outcome.result()
    except AgentError as error:
        timings.problem = f"{type(error).__name__}: {error}"
    whole = Path(f"{jobs.results}.new")
    whole.write_bytes(msgspec.json.encode(timings))
    whole.rename(jobs.results)
    # An end of its own would make the spawner start it again.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    select.poll().poll()
    return 0


if __name__ == "__main__":
    sys.exit(main())
