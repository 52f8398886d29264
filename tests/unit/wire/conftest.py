# SPDX-License-Identifier: Apache-2.0
"""The loop that tests of the HTTP client run on, with a deadline of its own."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from supervisor.clock import SystemClock
from supervisor.loop import Loop, Promise

T = TypeVar("T")
DEADLINE_S = 20.0
Run = Callable[[Coroutine[Promise[Any], None, T]], T]


@pytest.fixture
def loop() -> Loop:
    """A real loop on the real clock."""
    return Loop(SystemClock())


@pytest.fixture
def run(loop: Loop) -> Run[Any]:
    """Turn the loop until a coroutine is done, and return what it returned."""

    def run_to_end(work: Coroutine[Promise[Any], None, T]) -> T:
        return finish(loop, loop.start("test", work))

    return run_to_end


def finish(loop: Loop, promise: Promise[T]) -> T:
    """Turn `loop` until `promise` is settled, by failure after a deadline if need be."""
    cancel = loop.call_later(DEADLINE_S, lambda: promise.fail(TimeoutError("the test's deadline")))
    promise.when_done(lambda: None)
    while not promise.done:
        loop.turn()
    cancel()
    return promise.result()
