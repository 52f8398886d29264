# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the HTTP client's tests: a real loop on the real clock."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from supervisor.clock import SystemClock
from supervisor.loop import Loop, Promise
from tests.unit.wire.turning import Run, finish

T = TypeVar("T")


@pytest.fixture
def loop() -> Loop:
    return Loop(SystemClock())


@pytest.fixture
def run(loop: Loop) -> Run[Any]:
    """Turn the loop until a coroutine is done, and return what it returned."""

    def run_to_end(work: Coroutine[Promise[Any], None, T]) -> T:
        return finish(loop, loop.start("test", work))

    return run_to_end
