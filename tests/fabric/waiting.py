# SPDX-License-Identifier: Apache-2.0
"""Owns the one way in which tests and the demo wait: a condition, looked at until it holds or its time is over."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class WaitedInVain(AssertionError):
    """A condition did not come true in its time."""


def until(what: str, condition: Callable[[], T], timeout_s: float = 30.0, every_s: float = 0.02) -> T:
    """The first true value of `condition`; WaitedInVain, naming `what`, after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise WaitedInVain(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)
