# SPDX-License-Identifier: Apache-2.0
"""Takes how exposed each process is from `agent-supervisor policy score`: the same figures on every machine."""

import json
import subprocess
import sys

import msgspec

from tests.bench.samples import Budget, Row
from tests.fabric.lab import PROJECT

COMMAND = ("-I", "-m", "supervisor", "policy", "score", "--json", "--no-judge", "--policy-dir", "/nonexistent")
UNIT = "of 10"


class _Score(msgspec.Struct):
    exposure: float


class _Kind(msgspec.Struct):
    kind: str
    systemd: _Score
    budget: float | None


class _Told(msgspec.Struct):
    rows: list[_Kind]
    installed: _Score


def measure(_: int) -> list[Row]:
    """Once: they do not vary. Nothing where systemd-analyze is not installed."""
    done = subprocess.run([sys.executable, *COMMAND], capture_output=True, check=True, cwd=PROJECT)
    if not json.loads(done.stdout)["systemd"]:
        return []
    told = msgspec.json.decode(done.stdout, type=_Told)
    supervisor = [each for each in told.rows if each.kind == "supervisor"]
    return [
        _row("systemd's exposure of exported units: workers", [each for each in told.rows if each not in supervisor]),
        _row("  the supervisor", supervisor),
        Row("  the installed unit's own, no credit claimed", UNIT, (told.installed.exposure,)),
    ]


def _row(name: str, kinds: list[_Kind]) -> Row:
    judged = [(each.systemd.exposure, each.budget) for each in kinds if each.budget is not None]
    return Row(name, UNIT, tuple(score for score, _ in judged), Budget(judged[0][1], binding=True), at=99)
