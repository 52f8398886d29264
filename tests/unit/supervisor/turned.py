# SPDX-License-Identifier: Apache-2.0
"""Owns a clock that a test turns by hand, and how a test lets a loop work until something has come true."""

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from supervisor.loop import Loop, Promise

T = TypeVar("T")


class HandClock:
    """Stands still until the test moves it; seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


def turn_until(loop: Loop, condition: Callable[[], bool], patience_s: float = 5.0) -> None:
    """Turn until `condition` holds; a timer keeps every single turn short."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        loop.call_later(0.01, lambda: None)
        loop.turn()


def run(loop: Loop, work: Coroutine[Promise[Any], None, T]) -> T:
    """The coroutine's result."""
    outcome = loop.start("test", work)
    turn_until(loop, lambda: outcome.done)
    return outcome.result()
