# SPDX-License-Identifier: Apache-2.0
"""Owns audit logs that tests write with the real writer, and the verdict of the real command on them."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from supervisor.audit_log import AuditLog, Bounds, Surroundings
from supervisor.audit_log_entry import Entry
from supervisor.cli.main import main
from tests.unit.supervisor.turned import HandClock

BOOT = "11111111-2222-3333-4444-555555555555"
NEXT_BOOT = "99999999-2222-3333-4444-555555555555"
SMALL = Bounds(file_bytes=2000, files=4)


def writer(path: Path, bounds: Bounds | None = None, **more: Any) -> AuditLog:
    """The supervisor's writer of the log at `path`."""
    return AuditLog(str(path), Surroundings(HandClock(), more.pop("boot", BOOT), **more), bounds)


def filled(path: Path, records: int, bounds: Bounds | None = None) -> AuditLog:
    """A log with so many records of workers' ends, after its first."""
    audit = writer(path, bounds)
    for number in range(records):
        audit(Entry("worker-exit", worker=f"parser.{number % 8}", kind="parser", pid=1000 + number, detail="ended"))
    return audit


def files_of(path: Path) -> list[Path]:
    """Its files, oldest first."""
    return [*sorted(path.parent.glob(f"{path.name}-*")), path]


def verdict(path: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit status of `log verify --json`, and what it prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        status = main(["log", "verify", "--json", "--file", str(path), *options])
    return status, json.loads(out.getvalue() or "{}")


def found(path: Path, *options: str) -> list[tuple[str, int]]:
    """What is wrong, and with which record; the exit status says the same."""
    status, told = verdict(path, *options)
    assert (status == 0) == told["good"] == (told["findings"] == []), told
    return [(one["wrong"], one["seq"]) for one in told["findings"]]
