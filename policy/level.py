# SPDX-License-Identifier: Apache-2.0
"""Owns what a machine must be able to enforce before workers start on it: levels, and single mechanisms.

Pure; `ps` calls a machine by the same words. The mechanisms are those of ipc.records, in their order.
"""

from collections.abc import Iterable
from typing import Literal, get_args

from ipc.records import MECHANISMS

Level = Literal["basic", "reduced", "full"]
Mechanism = Literal[
    "landlock", "landlock-net", "landlock-scope", "mdwe", "user-namespace", "memory-limit", "pids-limit", "cpu-limit",
    "pidfd",
]  # fmt: skip

LEVELS: tuple[Level, ...] = get_args(Level)
# Without these a worker reaches what is not its own: others' files, the machine's memory, its table of processes.
ESSENTIAL = frozenset({"landlock", "memory-limit", "pids-limit"})
# Started below the level, too: without them the host could not be told why all others are refused. The one holds
# nothing, and what the other holds lets it look, not change.
TELLING = frozenset({"parser", "verifier"})
_REQUIRED: dict[Level, frozenset[str]] = {"basic": frozenset(), "reduced": ESSENTIAL, "full": frozenset(MECHANISMS)}


def level_of(missing: Iterable[str]) -> Level:
    """The level of a machine that lacks `missing`: full with all, reduced with the essential ones, else basic.

    Namespaces, capabilities, system-call filters and resource limits are always there: no worker starts without."""
    lacking = frozenset(missing)
    return next(level for level in reversed(LEVELS) if not _REQUIRED[level] & lacking)


def required(level: Level, mechanisms: Iterable[str] = ()) -> tuple[str, ...]:
    """All that a machine must have for `level`, and `mechanisms` besides."""
    wanted = _REQUIRED[level].union(mechanisms)
    return tuple(name for name in MECHANISMS if name in wanted)


def higher(*levels: Level) -> Level:
    """The highest of `levels`."""
    return max(levels, key=LEVELS.index)
