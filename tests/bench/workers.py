# SPDX-License-Identifier: Apache-2.0
"""Measures workers in a lab: how soon one answers, how soon a killed one is replaced, what starting it by exec costs.

The spawner, its workers, their confinement and the fleet are the agent's own; tests/bench/fleet_driver.py sits in the
supervisor's place and holds the watch.
"""

import signal
import subprocess
import sys

import msgspec

from tests.bench.fleet_jobs import Jobs, Timings
from tests.bench.samples import Budget, Row, in_unit, quantile, timed
from tests.fabric.lab import Lab, LabError, send_signal
from tests.fabric.media import make_medium, make_ovf
from tests.fabric.scene import Scene, Wanted
from tests.fabric.waiting import until

FOLDER = "/run/fabric"
MEDIUM, LONG_MEDIUM, JOBS, RESULTS = (f"{FOLDER}/{name}" for name in ("medium", "long-medium", "jobs", "results"))
# Near the limit of a document: a parser works on it for several times as long as a kill takes.
LONG_CUSTOM_DATA_BYTES = 700_000
STARTED_BUDGET_MS = 10
REPLACED_BUDGET_MS = 20
CONFINED_BUDGET_MS = 8
READ_BUDGET_MS = 3
A_JOB_S = 1.0
# 10 ms are nine tenths of an interpreter's start where that takes 11 ms; twice that, for machines with other work.
MOST_TIMES_BARE = 1.8
BARE_STARTS = 21


def measure(times: int) -> list[Row]:
    """Starts, replacements and jobs, `times` each (the slow ones by exec a quarter of that)."""
    bare = timed(lambda: subprocess.run([sys.executable, "-I", "-c", "pass"], check=True), BARE_STARTS)
    forked = run(Jobs(MEDIUM, LONG_MEDIUM, RESULTS, times, times, times))
    slow = max(3, times // 4)
    bare_worker = quantile(run(Jobs(MEDIUM, LONG_MEDIUM, RESULTS, times, unconfined=True)).answering, 50)
    execed = run(Jobs(MEDIUM, LONG_MEDIUM, RESULTS, slow, 0, slow, by_exec=True))
    ratio = quantile(forked.answering, 50) / quantile(bare, 50)
    return [
        _row("worker: asked for to confined and answering", forked.answering, STARTED_BUDGET_MS),
        Row("  as a multiple of python3 -I -c pass", "x", (ratio,), Budget(MOST_TIMES_BARE, binding=True)),
        _row(
            "  of which confinement, complete",
            tuple(each - bare_worker for each in forked.answering),
            CONFINED_BUDGET_MS,
        ),
        _row("  and verified", forked.verified),
        _row("  the verifier's read", forked.read, READ_BUDGET_MS),
        _row("kill -9 in a job to the replacement answering", forked.again, REPLACED_BUDGET_MS),
        _row("  and verified, with the job at hand", forked.replaced),
        _row("parser: a medium of 2 MiB, started by fork", forked.parsed),
        _row("  started by exec", execed.parsed),
        _row("  by exec: asked for to confined and answering", execed.answering),
    ]


def run(jobs: Jobs) -> Timings:
    """Have the driver do `jobs` in a lab of its own; LabError with its words when it could not."""
    patience_s = 10 + A_JOB_S * (2 * jobs.starts + jobs.kills + jobs.parses)
    with Lab() as lab:
        lab.output("mkdir", "-p", FOLDER)
        lab.path(MEDIUM).write_bytes(Wanted().medium())
        lab.path(LONG_MEDIUM).write_bytes(make_medium(make_ovf(custom_data=bytes(LONG_CUSTOM_DATA_BYTES)), "udf"))
        lab.path(JOBS).write_bytes(msgspec.json.encode(jobs))
        spawner = lab.popen(
            [sys.executable, "-I", "-m", "tests.bench.fleet_spawner", JOBS], cgroup=Scene(lab).agent_cgroup
        )
        results = lab.path(RESULTS)
        until("the driver's results", lambda: results.exists() or spawner.poll() is not None, patience_s, every_s=0.2)
        if not results.exists():
            raise LabError(f"the bench's spawner ended with status {spawner.returncode}")
        timings = msgspec.json.decode(results.read_bytes(), type=Timings)
        send_signal(spawner, signal.SIGTERM)
        spawner.wait(timeout=15)
    if timings.problem:
        raise LabError(timings.problem)
    return timings


def _row(name: str, seconds: tuple[float, ...], budget_ms: float | None = None) -> Row:
    budget = None if budget_ms is None else Budget(budget_ms, binding=False)
    return Row(name, "ms", in_unit(seconds, "ms"), budget)
