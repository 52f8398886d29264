# SPDX-License-Identifier: Apache-2.0
"""Measures the rule in front of the WireServer in a lab: how soon it is back, whether it refuses its own, its cost.

The agent, its committers and its client are its own; restarts.py and asking.py have what asks without a pause.
"""

import json
import subprocess
import sys
from itertools import chain

from tests.bench.samples import Budget, Row, in_unit, quantile
from tests.egress.asking import COMPARED
from tests.egress.restarts import asking, series
from tests.fabric.lab import PROJECT, Lab
from tests.fabric.scene import Scene, Wanted, image_files
from tests.fabric.vm import QUICK, Vm
from tests.fabric.waiting import until

BACK_BUDGET_MS = 1000
DEARER_BUDGET_PERCENT = 5
MEMORY_BUDGET_MIB = 1
REQUESTS_A_LIFE = 100
QUICK_ONES = 5
# What the guard loads beside what the supervisor has loaded anyway; and what there is of it before and after.
OWN = """
import supervisor.lean
from supervisor import beginnings, contact, control, course, credentials, fleet, medium, provisioning
from supervisor.wire import host
"""
GUARD = "from supervisor.egress import guard, guests, sockets, wanted"
ANONYMOUS = "[int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('RssAnon')][0]"


def measure(times: int) -> list[Row]:
    """`times` restarts and as many flushes."""
    counts = series(times, REQUESTS_A_LIFE)
    lost = counts.begun - counts.answered - counts.failed - counts.lives
    dearer = compare()
    return [
        Row(
            "rule flushed to an outsider refused again", "ms", flushes(times), Budget(BACK_BUDGET_MS, binding=False), 99
        ),
        Row(
            f"{counts.answered} requests, {times} kills: packets refused",
            "count",
            (counts.refused,),
            Budget(0, binding=True),
        ),
        Row("  requests that failed", "count", (counts.failed,), Budget(0, binding=True)),
        Row("  connections half closed at the host", "count", (counts.half_closed,), Budget(0, binding=True)),
        Row("  lost without a kill", "count", (max(0, lost),), Budget(0, binding=True)),
        Row(
            "round trip to the host with the rule, dearer by", "%", dearer, Budget(DEARER_BUDGET_PERCENT, binding=True)
        ),
        Row("the guard's memory", "MiB", (memory_mib(),), Budget(MEMORY_BUDGET_MIB, binding=True)),
    ]


def flushes(times: int) -> tuple[float, ...]:
    """Milliseconds, each from before the flush to the first attempt of somebody else that is refused again."""
    with Lab(image_files(QUICK)) as lab:
        vm = Vm(Scene(lab), Wanted())
        vm.scene.start_host()
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        vm.settled()
        until("nothing more to come", lambda: not vm.scene.workers())
        done = lab.run(
            [sys.executable, "-m", "tests.bench.flusher", str(times)], cwd=str(PROJECT), timeout_s=10 + 3 * times
        )
        assert done.returncode == 0, done.stderr
        until("every time is counted", lambda: vm.ps().overview.egress.put_back == times)
    return in_unit(tuple(json.loads(done.stdout)), "ms")


def compare() -> tuple[float, ...]:
    """By how many percent a request is dearer than without the rule: of all the one of which a twentieth were quicker,
    because whatever else the machine does makes some slower, and none quicker."""
    with asking("compare") as (scene, _):
        until("the results", scene.lab.path(COMPARED).exists, 120, every_s=0.2)
        results: dict[str, list[list[float]]] = json.loads(scene.lab.path(COMPARED).read_bytes())
    ruled, free = (quantile(tuple(chain.from_iterable(results[name])), QUICK_ONES) for name in ("with", "without"))
    return (100 * (ruled / free - 1),)


def memory_mib() -> float:
    """What loading it adds to a process that has all else of the supervisor."""
    program = f"{OWN}\nbefore = {ANONYMOUS}\n{GUARD}\nprint({ANONYMOUS} - before)"
    done = subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024
