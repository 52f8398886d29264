# SPDX-License-Identifier: Apache-2.0
"""Turning the supervisor's loop in a test, until something has happened or a deadline has passed."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from supervisor.loop import Loop, Promise

T = TypeVar("T")
DEADLINE_S = 20.0
Run = Callable[[Coroutine[Promise[Any], None, T]], T]


def finish(loop: Loop, promise: Promise[T]) -> T:
    """Turn until `promise` is settled, by failure after a deadline if need be, and return its value."""
    cancel = loop.call_later(DEADLINE_S, lambda: promise.fail(TimeoutError("the test's deadline")))
    # What settles it may be the last that happens in a turn, which would then sleep until the deadline.
    promise.when_done(lambda: wake(loop))
    while not promise.done:
        loop.turn()
    cancel()
    return promise.result()


def wake(loop: Loop) -> None:
    """Have the next turn come back at once."""
    loop.call_later(0.0, lambda: None)


def turn_until(loop: Loop, condition: Callable[[], bool]) -> None:
    """Turn until `condition` holds; the tick keeps the loop from sleeping on when nothing comes."""
    cancel = loop.call_later(DEADLINE_S, lambda: pytest.fail("condition not met in time"))
    while not condition():
        loop.call_later(0.005, lambda: None)
        loop.turn()
    cancel()
