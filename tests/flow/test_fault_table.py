# SPDX-License-Identifier: Apache-2.0
"""Every fault of the host's, met by a running agent: it is back within one poll of the fault's end and two seconds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fabric.fault_table import BACK_WITHIN_S, ROWS, Row, Table, running
from tests.fabric.scene import AGENT, supervisor_pid
from tests.fabric.vm import Vm
from tests.fabric.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
# All of them, for as long as one likes: `make faults`.
IN_SHORT = (
    "any:refuse and goalstate:drop",
    "goalstate:status=503",
    "goalstate:reset",
    "goalstate:stranger",
    "extensionsconfig:garbled",
    "extensionsconfig:bomb",
    "hostingenvironment:chunked-broken",
    "certificates:empty",
    "vmsettings:cut",
    "status:status=503 and putblob:status=503",
)


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """One VM for all of it; each fault lasts as long as it takes to be met, and a moment."""
    with running() as vm:
        yield Table(vm, 0.1)


def test_there_are_as_many_faults_as_promised() -> None:
    assert len(ROWS) >= 26
    assert {row.name for row in ROWS} > set(IN_SHORT)


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in IN_SHORT], ids=lambda row: row.name)
def test_the_agent_is_back_soon_after_a_fault(table: Table, row: Row) -> None:
    result = table.play(row)
    print(result.line)
    assert result.back_s <= BACK_WITHIN_S


@pytest.mark.parametrize(
    "row",
    [Row(("goalstate:huge",)), Row(("extensionsconfig:huge",)), Row(("vmsettings:huge",), "fast")],
    ids=lambda row: row.name,
)
def test_junk_takes_no_memory(table: Table, row: Row) -> None:
    """Eight MiB and more in a reply: refused, and at no moment kept."""
    pid = supervisor_pid(table.vm.agent)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the high-water mark begins anew
    before = high_water_kib(pid)
    table.play(row)
    assert high_water_kib(pid) - before <= 1024
    assert supervisor_pid(table.vm.agent) == pid


def high_water_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def test_certificates_for_somebody_else_change_nothing_and_are_asked_for_again(table: Table) -> None:
    vm = table.vm
    before: Any = vm.scene.publish("rotate")["thumbprints"]
    until("the certificates", lambda: before[0] in certificates(vm))
    vm.scene.steer("envelopes recipient=other")
    others: Any = vm.scene.publish("rotate")["thumbprints"]
    until("a complaint", lambda: "can't be opened with this VM's transport key" in certificates(vm))
    assert before[0] in certificates(vm)
    vm.scene.steer("envelopes recipient=key")
    until("the right ones", lambda: others[0] in certificates(vm), BACK_WITHIN_S + 1)
    assert "problem" not in certificates(vm)


def certificates(vm: Vm) -> str:
    """What the command shows."""
    return vm.lab.output(str(AGENT), "certificates")
