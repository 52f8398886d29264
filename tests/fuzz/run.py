# SPDX-License-Identifier: Apache-2.0
"""A fuzz run: inputs of one format shared out to worker processes, their findings and figures put together."""

import collections
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Report:
    """What came of `inputs` inputs. `slowest` is (seconds, input); memory is the peak of any one process."""

    name: str
    inputs: int = 0
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    findings: list[dict[str, Any]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)
    peak_kib: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        accepted = self.outcomes["accepted"]
        return (
            f"{self.name}: {self.inputs} inputs in {self.seconds:.1f} s ({self.inputs / self.seconds:.0f}/s), "
            f"{accepted} accepted, {len(self.outcomes)} kinds of outcome, slowest {self.slowest[0] * 1000:.0f} ms "
            f"(input {self.slowest[1]}), peak {self.peak_kib / 1024:.1f} MiB, {len(self.findings)} findings"
        )


def fuzz(name: str, inputs: int, *, first: int = 0, processes: int = 1) -> Report:
    """Inputs `first` to `first` + `inputs` of the format, in so many processes at once."""
    start = time.monotonic()
    bounds = [first + inputs * part // processes for part in range(processes + 1)]
    report = Report(name)
    with ThreadPoolExecutor(processes) as pool:
        for part in pool.map(lambda pair: _share(name, *pair), itertools.pairwise(bounds)):
            _add(report, part)
    report.seconds = time.monotonic() - start
    return report


def _share(name: str, first: int, end: int) -> Report:
    """One process's share, begun anew behind an input that ended the process."""
    report = Report(name)
    while first < end and len(report.findings) < 20:
        progress = os.memfd_create("progress")
        try:
            command = [sys.executable, "-m", "tests.fuzz.worker", name, str(first), str(end), str(progress)]
            done = subprocess.run(
                command, cwd=ROOT, pass_fds=[progress], capture_output=True, check=False, env=_plain()
            )
            reached = int.from_bytes(os.pread(progress, 8, 0), "little")
        finally:
            os.close(progress)
        if done.returncode == 0:
            said = json.loads(done.stdout)
            inputs = sum(said["outcomes"].values())
            outcomes = collections.Counter(said["outcomes"])
            _add(report, Report(name, inputs, outcomes, said["findings"], tuple(said["slowest"]), said["peak_kib"]))
            break
        ended = f"ended the process: {_how(done.returncode)}"
        error = f"{ended} {done.stderr.decode(errors='replace')[-300:]}".strip()
        _add(report, Report(name, reached + 1 - first, findings=[{"input": reached, "error": error}]))
        first = reached + 1
    return report


def _how(status: int) -> str:
    if status == -signal.SIGPROF:
        return "over 1 s"
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def _plain() -> dict[str, str]:
    """The environment without what makes a process larger or its results others'."""
    return {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}


def _add(report: Report, part: Report) -> None:
    report.inputs += part.inputs
    report.outcomes += part.outcomes
    report.findings += part.findings
    report.slowest = max(report.slowest, part.slowest)
    report.peak_kib = max(report.peak_kib, part.peak_kib)
