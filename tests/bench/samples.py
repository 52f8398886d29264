# SPDX-License-Identifier: Apache-2.0
"""Owns what a measurement is: its values, its quantiles, its budget; takes no measurement but the time of a call."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """At most `limit`. A `binding` one is a ratio or a count, the same on every machine: breaking it fails the run.

    One that is not binding is a time: it is judged in the table, but a slow or busy machine fails nothing."""

    limit: float
    binding: bool


@dataclass(frozen=True)
class Row:
    """One line of the table: values in `unit`; the budget is held against the median, or with `at` 99 against p99."""

    name: str
    unit: str
    values: tuple[float, ...]
    budget: Budget | None = None
    at: int = 50

    @property
    def verdict(self) -> str:
        """ "" without a budget, else "ok", "over" (a time) or "BROKEN" (binding)."""
        if self.budget is None:
            return ""
        if quantile(self.values, self.at) <= self.budget.limit:
            return "ok"
        return "BROKEN" if self.budget.binding else "over"


def quantile(values: tuple[float, ...], percent: int) -> float:
    """The value that at least `percent` of 100 values do not exceed (nearest rank); ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def timed(action: Callable[[], object], times: int, warm_up: int = 1) -> tuple[float, ...]:
    """Wall seconds of `times` calls of `action`, after `warm_up` calls that don't count."""
    for _ in range(warm_up):
        action()
    return tuple(_seconds(action) for _ in range(times))


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_unit(seconds: tuple[float, ...], unit: str) -> tuple[float, ...]:
    """Seconds as `unit`: "s", "ms" or "us"."""
    factor = {"s": 1.0, "ms": 1e3, "us": 1e6}[unit]
    return tuple(value * factor for value in seconds)
