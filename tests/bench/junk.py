# SPDX-License-Identifier: Apache-2.0
"""Measures what eight MiB of junk, and an answer without end, take of the supervisor's memory, at each of the host's
documents.

In a lab with all that Azure has: the fault table's VM. Each time the junk is refused, and the agent is back after it.
"""

from pathlib import Path

from tests.bench.samples import Budget, Row
from tests.fabric import fault_table
from tests.fabric.scene import supervisor_pid

BUDGET_MIB = 1
LASTS_S = 0.1
# What goal states themselves leave behind is no junk's.
USUAL_ROUNDS = 2
# `huge` tells its length, `flood` tells none; `chunked` is an honest answer.
KINDS, USUAL = ("huge", "flood"), "chunked"
ROUTES = {
    "goalstate": "wire",
    "extensionsconfig": "wire",
    "hostingenvironment": "wire",
    "sharedconfig": "wire",
    "certificates": "rotated",
    "vmsettings": "fast",
}


def measure(times: int) -> list[Row]:
    """`times` of each kind at each route."""
    rows = [row for kind in KINDS for row in _rows(kind)]
    with fault_table.running() as vm:
        table = fault_table.Table(vm, LASTS_S)
        pid = supervisor_pid(vm.agent)
        for row in _rows(USUAL) * USUAL_ROUNDS:
            table.play(row)
        before = _kib(pid, "RssAnon:")
        peaks = tuple(_peak_mib(table, row, pid) for _ in range(times) for row in rows)
        kept = (_kib(pid, "RssAnon:") - before) / 1024
        lives_on = supervisor_pid(vm.agent) == pid
    name = f"junk in a reply, at {len(ROUTES)} documents"
    return [
        Row(f"{name}: memory at the peak", "MiB", peaks, Budget(BUDGET_MIB, binding=True), 99),
        Row("  kept after all of them", "MiB", (kept,), Budget(BUDGET_MIB, binding=True)),
        Row("  supervisors ended by it", "count", (int(not lives_on),), Budget(0, binding=True)),
    ]


def _rows(kind: str) -> list[fault_table.Row]:
    return [fault_table.Row((f"{route}:{kind}",), by) for route, by in ROUTES.items()]


def _peak_mib(table: fault_table.Table, row: fault_table.Row, pid: int) -> float:
    """By how much the supervisor's memory rose above what it was before."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")  # the high-water mark begins anew
    before = _kib(pid, "VmHWM:")
    table.play(row)
    return (_kib(pid, "VmHWM:") - before) / 1024


def _kib(pid: int, key: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
