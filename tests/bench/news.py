# SPDX-License-Identifier: Apache-2.0
"""Measures how long a new goal state takes: from the poll that finds it until it is in force, and from there until the
host has taken a status on it; by the WireServer, with fresh certificates, and by FastTrack; and its processor time.

In a lab with all that Azure has. Times are the host's record of the requests and the agent's audit log; processor time
is that of all processes of the agent, from before the goal state is published until its last worker has ended.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from tests.bench.processes import cpu_seconds, process_tree
from tests.bench.samples import Budget, Row, in_unit, quantile, timed
from tests.fabric.surroundings import Surroundings
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

BUDGET_MS = 100
# 0.1 s is nine starts of an interpreter where that takes 11 ms; twice that, for machines with other work.
MOST_TIMES_BARE = 18
BARE_STARTS = 21
OFTEN = QUICK + b"Extensions.GoalStatePeriod=1\n"
AUDIT_LOG = "/var/lib/agent-supervisor/audit.log"
SETTINGS = [{"sequence": 1, "public": {"a": 1}, "protected": {"b": 2}}]
PLAN = {"plugins": [{"name": f"Publisher.Type{number}", "settings": SETTINGS} for number in range(3)]}
# Which route the poll asks that finds something.
WIRE, FAST = "goalstate", "vmsettings"
PATIENCE_S = 30
LOOK_EVERY_S = 0.05
# Two processors have as much in the time that the budget gives.
CPU_BUDGET_MS = 2 * BUDGET_MS
# Spawner and supervisor.
RESIDENTS = 2


class News(NamedTuple):
    """Seconds, of one goal state."""

    in_force: float
    told: float
    cpu: float


def measure(times: int) -> list[Row]:
    """`times` goal states of each sort, each with three handlers whose settings are sealed for a certificate."""
    bare = timed(lambda: subprocess.run([sys.executable, "-I", "-c", "pass"], check=True), BARE_STARTS)
    around = Surroundings.make()
    with booted(config=OFTEN, image=around.files(), host=False) as vm:
        around.start_host(vm.scene, more=["--certificates=rsa"])
        vm.boot(vm.wanted.medium())
        until("a status", lambda: (seen := vm.ps_or_none()) and seen.overview.contact.status_accepted, PATIENCE_S)
        return [
            *_rows("the WireServer", bare, [_once(vm, WIRE, lambda: _by_wire(vm)) for _ in range(times)]),
            *_rows("fresh certificates", bare, [_once(vm, WIRE, lambda: _by_wire(vm, "rotate")) for _ in range(times)]),
            *_rows("FastTrack", bare, [_once(vm, FAST, lambda: _fast(vm)) for _ in range(times)]),
        ]


def _rows(name: str, bare: tuple[float, ...], found: list[News]) -> list[Row]:
    in_force, told, cpu = zip(*found, strict=True)
    budget = Budget(BUDGET_MS, binding=False)
    ratio = quantile(in_force, 50) / quantile(bare, 50)
    return [
        Row(f"goal state, {name}: poll to in force", "ms", in_unit(in_force, "ms"), budget),
        Row("  as a multiple of python3 -I -c pass", "x", (ratio,), Budget(MOST_TIMES_BARE, binding=True)),
        Row("  in force to status taken by the host", "ms", in_unit(told, "ms"), budget),
        Row("  processor time for all of it", "ms", in_unit(cpu, "ms"), Budget(CPU_BUDGET_MS, binding=False)),
    ]


def _by_wire(vm: Vm, *words: str) -> str:
    return f"incarnation_{vm.scene.publish(*words, **PLAN)['incarnation']}"


def _fast(vm: Vm) -> str:
    return f"etag_{vm.scene.steer(f'fast {json.dumps(PLAN)}')['etag']}"


def _once(vm: Vm, route: str, publish: Callable[[], str]) -> News:
    """From the poll's answer until what was published is in force, and from there to the status."""
    before, cpu = len(vm.scene.records()), _cpu_at_rest(vm)
    wanted = publish()
    in_force = until(f"{wanted} in force", lambda: _in_force(vm, wanted), PATIENCE_S, LOOK_EVERY_S)
    told = until("its status", lambda: _first(vm, before, in_force), PATIENCE_S, LOOK_EVERY_S)
    asked = max(at for at in _times(vm, before, route) if at <= in_force)
    return News(in_force - asked, told - in_force, _cpu_at_rest(vm) - cpu)


def _cpu_at_rest(vm: Vm) -> float:
    """Seconds that the agent's processes have had so far, those that have ended among them, once no worker lives."""
    spawner, _ = vm.residents()
    until("no worker", lambda: len(process_tree(spawner)) == RESIDENTS, PATIENCE_S)
    return cpu_seconds(process_tree(spawner))


def _in_force(vm: Vm, name: str) -> float:
    """When it was, in wall seconds, by the audit log; 0 while it is not."""
    whole = vm.lab.read(AUDIT_LOG).decode().splitlines(keepends=True)
    entries = [json.loads(line) for line in whole if line.endswith("\n")]
    ended = [each["time"] for each in entries if each.get("request") == name and each.get("decision") == "done"]
    return datetime.fromisoformat(ended[0]).timestamp() if ended else 0.0


def _first(vm: Vm, since: int, in_force: float) -> float:
    """When the first status from then on was taken; 0 while there is none."""
    return next((at for at in _times(vm, since, "status") if at >= in_force), 0.0)


def _times(vm: Vm, since: int, route: str) -> list[float]:
    """When the host answered, each request that it accepted there."""
    taken = [each for each in vm.scene.records()[since:] if each["route"] == route and each["verdict"] == "accepted"]
    return [float(str(each["time"])) for each in taken]
