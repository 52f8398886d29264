# SPDX-License-Identifier: Apache-2.0
"""Owns how the numbers are shown: one table, the calibration in its first line and beside each figure."""

from collections.abc import Sequence

from tests.bench.samples import Row, quantile

HEADINGS = ("figure", "n", "p50", "p99", "unit", "budget", "", "x calibration")
_TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def table(calibration: Row, rows: Sequence[Row]) -> str:
    """All rows as text. "x calibration" is p50 as a multiple of the time a bare `python3 -I -c pass` takes here."""
    base = quantile(calibration.values, 50) * _TIMES[calibration.unit]
    lines = [HEADINGS, *(_cells(row, base) for row in (calibration, *rows))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in lines)


def broken(rows: Sequence[Row]) -> list[str]:
    """Names of the rows whose binding budget is broken."""
    return [row.name for row in rows if row.verdict == "BROKEN"]


def _cells(row: Row, base: float) -> tuple[str, ...]:
    p50 = quantile(row.values, 50)
    scale = f"{p50 * _TIMES[row.unit] / base:.3g}" if row.unit in _TIMES and base else ""
    budget = f"{'p99 ' if row.at == 99 else ''}<= {row.budget.limit:g}" if row.budget else ""
    return (row.name, str(len(row.values)), f"{p50:.4g}", f"{quantile(row.values, 99):.4g}", row.unit, budget,
            row.verdict, scale)  # fmt: skip


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    numbers = {1, 2, 3, 7}
    return [cell.rjust(width) if at in numbers else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
