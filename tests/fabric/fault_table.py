# SPDX-License-Identifier: Apache-2.0
"""Owns the table of the host's faults: each meets a running agent, ends, and the agent has to be back soon after.

Runs in the test, or as a program: `python -m tests.fabric.fault_table [--seconds N]` (root) prints the table. What it
measures is what the host sees: the status of a goal state that was published while the fault lasted.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.fabric.faults import Fault
from tests.fabric.surroundings import Surroundings
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import WaitedInVain, until

PERIOD_S = 1.0
# One poll, and two seconds.
BACK_WITHIN_S = PERIOD_S + 2.0
GIVE_UP_S = 40.0
CONFIG = QUICK + f"Extensions.GoalStatePeriod={PERIOD_S:g}\n".encode()
CERTIFICATES = "/var/lib/agent-supervisor/credentials/certificates"


@dataclass(frozen=True)
class Row:
    """One fault, as faults.py writes it; several, where one thing has two ways. `by` is how the next goal state comes:
    wire, rotated (with fresh certificates), or fast (by vmSettings)."""

    faults: tuple[str, ...]
    by: str = "wire"

    @property
    def name(self) -> str:
        return " and ".join(self.faults)


def _rows(route: str, *kinds: str, by: str = "wire") -> tuple[Row, ...]:
    return tuple(Row((f"{route}:{kind}",), by) for kind in kinds)


def _status_rows(*kinds: str) -> tuple[Row, ...]:
    """Both ways of a status at once: one alone would be no trouble."""
    return tuple(Row((f"status:{kind}", f"putblob:{kind}")) for kind in kinds)


ROWS = (
    # Connections that stand would go on: the first request that comes ends its own.
    Row(("any:refuse", "goalstate:drop")),
    *_rows("goalstate", "status=503", "status=410", "silence=1", "reset", "not-http", "truncate", "stranger", "flood"),
    *_rows("extensionsconfig", "status=500", "garbled", "laughs", "bomb", "huge"),
    *_rows("hostingenvironment", "chunked-broken"),
    *_rows("sharedconfig", "endless-headers"),
    *_rows("certificates", "status=403", "empty", "garbled", "reset-body", by="rotated"),
    *_rows("vmsettings", "status=502", "cut", "drop", "status=410", by="fast"),
    *_status_rows("status=503", "reset", "invalid-container"),
)


@dataclass(frozen=True)
class Result:
    """`back_s` after the fault's end the host knew of the goal state; `met`: so many requests met the fault."""

    row: Row
    met: int
    back_s: float

    @property
    def line(self) -> str:
        return f"{self.row.name:48} {self.row.by:8} {self.met:4}  {self.back_s:6.2f} s"


@contextmanager
def running() -> Iterator[Vm]:
    """A provisioned VM with all of Azure around it, whose agent has told its first status."""
    around = Surroundings.make()
    with booted(config=CONFIG, image=around.files(), host=False) as vm:
        around.start_host(vm.scene, more=["--certificates=rsa"])
        vm.boot(vm.wanted.medium())
        until("a status", lambda: vm.scene.steer("last")["status"], 30)
        yield vm


class Table:
    """Plays rows on one VM, one after the other, each lasting `seconds` once it is met."""

    def __init__(self, vm: Vm, seconds: float) -> None:
        self.vm = vm
        self._seconds = seconds
        self._sequence = 100

    def play(self, row: Row) -> Result:
        """One row. Raises WaitedInVain when the agent does not meet the fault, or does not come back."""
        vm = self.vm
        before = len(vm.scene.records())
        for fault in row.faults:
            vm.scene.steer(f"fault {fault}")
        try:
            is_back = self._publish(row)
            met = self._met(row, before, time.monotonic() + self._seconds)
        finally:
            vm.scene.steer("clear")
        began = time.monotonic()
        try:
            until(f"back after {row.name}", is_back, GIVE_UP_S, 0.01)
        except WaitedInVain as vain:
            raise WaitedInVain(f"{vain}; the host has {vm.scene.steer('last')}") from None
        return Result(row, met, time.monotonic() - began)

    def _met(self, row: Row, before: int, ends: float) -> int:
        """How many requests had met the fault at its end."""
        written = {str(Fault.parse(fault)) for fault in row.faults if not fault.endswith(":refuse")}

        def faulted() -> int:
            return sum(str(record["fault"]) in written for record in self.vm.scene.records()[before:])

        until(f"a request that meets {row.name}", faulted, GIVE_UP_S, 0.01)
        self._until(ends)
        return faulted()

    def _until(self, ends: float) -> None:
        left = ends - time.monotonic()
        until("the fault's end", lambda: time.monotonic() >= ends, max(left, 0) + 1)

    def _publish(self, row: Row) -> Callable[[], bool]:
        """Publish the next goal state; whether the host knows that it is in force."""
        if row.by == "fast":
            self._sequence += 1
            self.vm.scene.steer(f'fast {{"sequence": {self._sequence}}}')
            return lambda: self._told() == str(self._sequence)
        words = ("rotate", "same-container") if row.by == "rotated" else ()
        told: Any = self.vm.scene.publish(*words, plugins=[])
        thumbprints = told["thumbprints"] if row.by == "rotated" else ()
        files = [self.vm.lab.path(f"{CERTIFICATES}/{thumbprint}.crt") for thumbprint in thumbprints]
        return lambda: self._told() == str(told["incarnation"]) and all(file.exists() for file in files)

    def _told(self) -> str:
        """Which goal state the last status is about: the WireServer's incarnation, or what vmSettings have."""
        status: Any = self.vm.scene.steer("last")["status"]
        told = status["aggregateStatus"].get("vmArtifactsAggregateStatus")
        return str(told["goalStateAggregateStatus"]["inSvdSeqNo"]) if told else ""


def main() -> int:
    """Print the table; the exit status is 1 if any row took too long."""
    parser = argparse.ArgumentParser(prog="fault_table", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each fault lasts")
    parser.add_argument("words", nargs="*", help="rows with any of these in their names (default: all)")
    options = parser.parse_args()
    late = 0
    with running() as vm:
        table = Table(vm, options.seconds)
        print(f"{'fault':48} {'by':8} met   back after its end (at most {BACK_WITHIN_S:g} s)")
        for row in ROWS:
            if options.words and not any(word in row.name for word in options.words):
                continue
            result = table.play(row)
            late += result.back_s > BACK_WITHIN_S
            print(result.line, flush=True)
    return 1 if late else 0


if __name__ == "__main__":
    raise SystemExit(main())
