# SPDX-License-Identifier: Apache-2.0
"""One process of a fuzz run: attempts inputs of one format under a memory limit and a watchdog, prints what it saw.

As a command: `python -m tests.fuzz.worker FORMAT FIRST END PROGRESS-DESCRIPTOR`; started by `run`.
"""

import collections
import json
import os
import re
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

MEMORY_BYTES = 64 * 1024 * 1024
LONGEST_S = 1.0  # of the process's own time: that of the machine depends on who else works
MAX_FINDINGS = 20

_PLACES = re.compile(r"'[^']*'|\b\d+\b")


def confine() -> None:
    """No more than MEMORY_BYTES of address space from here on, and the peak counted from here."""
    Path("/proc/self/clear_refs").write_text("5")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def peak_kib() -> int:
    """The most memory that was resident since `confine`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def attempts(name: str, first: int, end: int, progress: int) -> dict[str, Any]:
    """What inputs `first` to `end` gave. The one at work stands in the file `progress`; SIGPROF ends a hang."""
    from tests.fuzz.targets import target

    attempt = target(name)
    outcomes: collections.Counter[str] = collections.Counter()
    findings: list[dict[str, Any]] = []
    slowest = (0.0, first)
    confine()
    for number in range(first, end):
        os.pwrite(progress, number.to_bytes(8, "little"), 0)
        signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
        before = time.thread_time()
        try:
            outcome = attempt(number)
        except Exception as error:  # noqa: BLE001 # that is what is looked for
            outcome = "finding"
            findings += [{"input": number, "error": f"{type(error).__name__}: {error}"[:300]}]
        slowest = max(slowest, (time.thread_time() - before, number))
        outcomes[_PLACES.sub("#", outcome)] += 1
        if len(findings) >= MAX_FINDINGS:
            break
    signal.setitimer(signal.ITIMER_PROF, 0)
    return {"outcomes": outcomes, "findings": findings, "slowest": slowest, "peak_kib": peak_kib()}


if __name__ == "__main__":
    print(json.dumps(attempts(sys.argv[1], *map(int, sys.argv[2:5]))))
