# SPDX-License-Identifier: Apache-2.0
"""Owns the retry plan of wire-protocol.md 2 as pure functions: what an answer means, how long to wait.

Runs in the supervisor. It must never sleep, read a clock or draw a random number: jitter is handed in by the caller.
"""

import enum

import msgspec

OK = frozenset({200, 201, 202})
# 401: beside 403, what a host says to whom its secure channel does not know; its state is asked for in between.
RETRIED = frozenset({205, 206, 401, 403, 429, 500, 501, 502, 503, 504, 507})
THROTTLED = frozenset({403, 429, 503})
GONE = 410
BAD_REQUEST = 400
STALE_IDENTITY = b"InvalidContainerConfiguration"


class Verdict(enum.Enum):
    """What follows from an answer."""

    ACCEPTED = enum.auto()
    TRY_AGAIN = enum.auto()
    GONE = enum.auto()
    REFUSED = enum.auto()


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and how patiently one kind of request is tried."""

    attempts: int = 6
    # Times 2, 3, 5, 8, 13: half a minute in all, a host agent's restart.
    delay_s: float = 1.0
    # Never reached by six attempts from one second on.
    longest_delay_s: float = 300.0
    # A host that throttles says "too many", not "later": short steps, but more of them.
    throttled_delay_s: float = 1.0
    throttled_attempts: int = 25
    # Whether another attempt follows on a status, too, and not only where no answer came.
    after_status: bool = True
    # Statuses that are worth another attempt beside those that always are.
    retried_too: frozenset[int] = frozenset()


class Progress(msgspec.Struct, frozen=True):
    """What has happened to one request so far. `throttled` stays once a throttling status was seen."""

    attempts: int = 0
    throttled: bool = False

    def after(self, status: int | None) -> "Progress":
        """One more attempt, which ended with `status`, or None when no answer came."""
        return Progress(self.attempts + 1, self.throttled or status in THROTTLED)


def judge(status: int, body: bytes, accepted: frozenset[int] = OK) -> Verdict:
    """The meaning of a complete answer. Redirects, 204 and 304 are refusals: nothing here asks for them."""
    if status in accepted:
        return Verdict.ACCEPTED
    if status in RETRIED:
        return Verdict.TRY_AGAIN
    if status == GONE or (status == BAD_REQUEST and STALE_IDENTITY in body):
        return Verdict.GONE
    return Verdict.REFUSED


def next_delay_s(policy: RetryPolicy, progress: Progress) -> float | None:
    """Seconds to wait before the next attempt, None when there is none left; after at least one attempt."""
    if progress.throttled:
        most = max(policy.attempts, policy.throttled_attempts)
        return policy.throttled_delay_s if progress.attempts < most else None
    if progress.attempts >= policy.attempts:
        return None
    return min(policy.delay_s * _fibonacci(progress.attempts), policy.longest_delay_s)


def _fibonacci(attempt: int) -> int:
    """2, 3, 5, 8 for attempts 1, 2, 3, 4."""
    older, newer = 1, 1
    for _ in range(attempt):
        older, newer = newer, older + newer
    return newer
