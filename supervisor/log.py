# SPDX-License-Identifier: Apache-2.0
"""Owns the one sink for log lines: redacts, escapes, bounds and limits them, then hands them to the outlets.

Runs in supervisor and spawner. It never raises, never blocks, and lets no registered or known secret through.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from supervisor.clock import Clock, stamp
from supervisor.outlets import LINE_BYTES, ConsoleOutlet, Line, Outlet
from supervisor.redaction import Redactor

Level = Literal["ERROR", "WARNING", "INFO", "VERBOSE"]
# The numbers that syslog has for them.
PRIORITIES: Mapping[Level, int] = {"ERROR": 3, "WARNING": 4, "INFO": 6, "VERBOSE": 7}

# A longer text is not looked into: a secret might be cut in two where the looking ends.
TEXT_CHARACTERS = 64 * 1024
NAME_CHARACTERS = 48
# Leaves room for time, level, name and the note that something was cut off.
BODY_CHARACTERS = LINE_BYTES - 160
SOURCES = 256


class Rate(msgspec.Struct, frozen=True):
    """How much one source may say: `burst` lines at once, `per_s` a second in the long run."""

    burst: int = 100
    per_s: float = 2.0


class Log:
    """The sink. Components get a `Voice` from `of` and know nothing else of it."""

    def __init__(
        self,
        clock: Clock,
        outlets: Sequence[Outlet],
        redactor: Redactor,
        *,
        verbose: bool = False,
        rate: Rate | None = None,
    ) -> None:
        """A console among the `outlets` takes what is important, until `leave_console`."""
        self.redactor = redactor
        self.verbose = verbose
        self._clock = clock
        self._outlets = tuple(outlets)
        self._consoles = [outlet for outlet in outlets if isinstance(outlet, ConsoleOutlet)]
        self._rate = rate or Rate()
        self._budgets: dict[str, _Budget] = {}
        self._silenced: set[str] = set()

    def of(self, process: str) -> "Voice":
        """What the process or worker called `process` says, with a rate limit of its own."""
        return Voice(self, process)

    def line(self, level: Level, process: str, text: str) -> None:
        """Write one line, unless `process` has said too much, or `level` is VERBOSE and nobody wants that."""
        if level == "VERBOSE" and not self.verbose:
            return
        process = _plain(process).replace(" ", "-")[:NAME_CHARACTERS] or "-"
        self._report_silenced()
        if self._budget(process).spend(self._clock.monotonic()):
            self._write(level, process, text)
        else:
            self._silenced.add(process)

    def show(self, lines: Sequence[str]) -> None:
        """Put `lines`, as they are but for secrets, on the console as one block, if it still takes anything."""
        text = "".join(f"{self._body(line)}\n" for line in lines)
        for console in self._consoles:
            console.show(text)

    def leave_console(self) -> None:
        """Nothing more to the console: from now on it is its users'."""
        for console in self._consoles:
            console.close()

    def close(self) -> None:
        """Say what was suppressed, and let go of the file."""
        for process in sorted(self._silenced):
            self._write_suppressed(process)
        self._silenced.clear()
        for outlet in self._outlets:
            outlet.close()

    def _report_silenced(self) -> None:
        for process in sorted(self._silenced):
            if self._budget(process).spend(self._clock.monotonic(), counted=False):
                self._silenced.discard(process)
                self._write_suppressed(process)

    def _write_suppressed(self, process: str) -> None:
        self._write("WARNING", process, f"suppressed {self._budgets[process].take_refused()} lines")

    def _budget(self, process: str) -> "_Budget":
        budget = self._budgets.get(process)
        if budget is None:
            if len(self._budgets) >= SOURCES:
                self._forget_quiet()
            budget = self._budgets[process] = _Budget(self._rate, self._clock.monotonic())
        return budget

    def _forget_quiet(self) -> None:
        now = self._clock.monotonic()
        self._budgets = {
            name: budget for name, budget in self._budgets.items() if name in self._silenced or not budget.full(now)
        }

    def _write(self, level: Level, process: str, text: str) -> None:
        line = Line(PRIORITIES[level], level, stamp(self._clock.wall()), process, self._body(text))
        for outlet in self._outlets:
            outlet.write(line)

    def _body(self, text: str) -> str:
        if len(text) > TEXT_CHARACTERS:
            return f"(a text of {len(text)} characters is not shown)"
        body = _plain(self.redactor.clean(text))
        if len(body) <= BODY_CHARACTERS:
            return body
        return f"{body[:BODY_CHARACTERS]}... (+{len(body) - BODY_CHARACTERS})"


class Voice:
    """One source's way to the log."""

    def __init__(self, log: Log, process: str) -> None:
        self._log = log
        self._process = process

    def error(self, text: str) -> None:
        self._log.line("ERROR", self._process, text)

    def warning(self, text: str) -> None:
        self._log.line("WARNING", self._process, text)

    def info(self, text: str) -> None:
        self._log.line("INFO", self._process, text)

    def verbose(self, text: str) -> None:
        self._log.line("VERBOSE", self._process, text)


class _Budget:
    """A token bucket, and how many lines it refused."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._at = now
        self._refused = 0

    def spend(self, now: float, *, counted: bool = True) -> bool:
        self._refill(now)
        if self._tokens >= 1:
            self._tokens -= 1
            return True
        self._refused += counted
        return False

    def full(self, now: float) -> bool:
        self._refill(now)
        return self._tokens >= self._rate.burst

    def take_refused(self) -> int:
        refused, self._refused = self._refused, 0
        return refused

    def _refill(self, now: float) -> None:
        self._tokens = min(float(self._rate.burst), self._tokens + max(0.0, now - self._at) * self._rate.per_s)
        self._at = now


def _plain(text: str) -> str:
    """`text` in printable ASCII on one line, every other character (and the backslash) as its escape."""
    return text.encode("unicode_escape").decode("ascii")
