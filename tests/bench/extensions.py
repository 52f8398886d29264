# SPDX-License-Identifier: Apache-2.0
"""Measures what a new extension takes where there is none: from published to its enable running, from the command's
end to its success at the host, processor time, how soon no worker of ours is left; and the agent at rest with one.

In a lab with systemd and all that Azure has. What a vendor's program says of its times, the host's record of statuses.
Processor time is that of the agent's processes; wardens are systemd's, and not among them.
"""

import random
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench import processes
from tests.bench.samples import Budget, Row, in_unit
from tests.fabric.handler_packages import Package
from tests.fabric.handlers_vm import HandlersVm, Wish, handlers_vm
from tests.fabric.scene import children_of
from tests.fabric.waiting import until

PERIOD_S = 1.0
BEGUN_BUDGET_MS = (PERIOD_S / 2 + 0.3) * 1000
TOLD_BUDGET_MS, CPU_BUDGET_MS = 150, 120
PSS_BUDGET_MIB = 40
REST_S = 60
PATIENCE_S = 60
# Spawner and supervisor.
RESIDENTS = 2


class Life(NamedTuple):
    """Seconds, of one new extension. `cpu` is that of all that its goal state takes, `bare_cpu` that of another goal
    state, which asks for nothing."""

    begun: float
    told: float
    cpu: float
    bare_cpu: float
    rested: float


def measure(times: int) -> list[Row]:
    """`times` extensions, each in the place of the one before, once that is gone; then the last of them at rest."""
    with handlers_vm() as vm:
        lives = [_once(vm, number) for number in range(times)]
        rest = processes.watch_idle(_host_pid(vm), REST_S, time.monotonic)
        alone = processes.pss_alone_mib(processes.process_tree(_host_pid(vm)))
    begun, told, cpu, bare_cpu, rested = zip(*lives, strict=True)
    own_cpu = tuple(max(0.0, life.cpu - life.bare_cpu) for life in lives)
    return [
        Row("new extension: published to enable running", "ms", in_unit(begun, "ms"), _time(BEGUN_BUDGET_MS)),
        Row("  its end to its success at the host", "ms", in_unit(told, "ms"), _time(TOLD_BUDGET_MS)),
        Row("  processor time, download to status", "ms", in_unit(own_cpu, "ms"), _time(CPU_BUDGET_MS)),
        Row("    with its goal state", "ms", in_unit(cpu, "ms")),
        Row("    the goal state alone", "ms", in_unit(bare_cpu, "ms")),
        Row("  from its success at the host until no worker is left", "ms", in_unit(rested, "ms")),
        Row("at rest with an extension: PSS of all processes", "MiB", (alone,), Budget(PSS_BUDGET_MIB, binding=True)),
        Row("  child processes started", "count", (float(rest.children),), Budget(0, binding=True)),
    ]


def _time(limit: float) -> Budget:
    return Budget(limit, binding=False)


def _once(vm: HandlersVm, number: int) -> Life:
    vm.until_ended(vm.publish(), PATIENCE_S)
    package = Package(f"Bench.New{number}")
    vm.stock(Wish(package))
    before = _cpu_at_rest(vm)
    vm.until_ended(vm.publish(), PATIENCE_S)
    cpu = _cpu_at_rest(vm)
    # Anywhere between two polls.
    time.sleep(random.random() * PERIOD_S)
    published = time.monotonic()
    vm.publish(Wish(package))
    ended: dict[str, Any] = until("its enable's end", lambda: _line(vm, f"{package.name}.ended"), PATIENCE_S)
    began: dict[str, Any] = until("its enable", lambda: _line(vm, package.name), PATIENCE_S)
    told = until("its success", lambda: _told(vm, package, ended["at"]), PATIENCE_S)
    heard = time.monotonic()
    used = _cpu_at_rest(vm) - cpu
    return Life(began["at"] - published, told - ended["at"], used, cpu - before, time.monotonic() - heard)


def _line(vm: HandlersVm, file: str) -> dict[str, Any]:
    return next((line for line in vm.judge(file) if line["verb"] == "enable"), {})


def _told(vm: HandlersVm, package: Package, since: float) -> float:
    """When the host took the status that tells of it, by the monotonic clock; 0 while it has none."""
    if vm.handler_status(package.name).get("status") != "Ready":
        return 0.0
    ahead = time.time() - time.monotonic()
    taken = [each for each in vm.scene.records() if each["route"] == "status" and each["verdict"] == "accepted"]
    return next(at for each in taken if (at := float(str(each["time"])) - ahead) >= since)


def _cpu_at_rest(vm: HandlersVm) -> float:
    """Seconds that the agent's processes have had so far, those that have ended among them, once no worker lives."""
    spawner = _host_pid(vm)
    until("no worker", lambda: len(processes.process_tree(spawner)) == RESIDENTS, PATIENCE_S)
    return processes.cpu_seconds(processes.process_tree(spawner))


def _host_pid(vm: HandlersVm) -> int:
    """The spawner, as this side numbers it: a child of the lab's systemd."""
    spawner = vm.spawner()
    return next(pid for pid in children_of(vm.lab.init_pid) if _number_within(pid) == spawner)


def _number_within(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[-1]) for line in lines if line.startswith("NSpid:"))
