# SPDX-License-Identifier: Apache-2.0
"""Owns how `ps` looks: a snapshot and measurements in, lines of text for a terminal out. Pure."""

import textwrap
from collections.abc import Mapping, Sequence

from supervisor.cli.measure import Usage
from supervisor.cli.printable import printable
from supervisor.status import Overview, ProcessRow, Snapshot

NARROWEST = 80
GAP = "  "

# Title, alignment, and how early the column gives way when there is no room for all (0: never).
COLUMNS = (
    ("NAME", "<", 0),
    ("PID", ">", 0),
    ("UID", ">", 0),
    ("STATE", "<", 0),
    ("FOR", ">", 5),
    ("RESTARTS", ">", 4),
    ("PSS", ">", 0),
    ("RSS", ">", 3),
    ("CPU", ">", 6),
    ("FILTERS", ">", 2),
    ("LEVEL", "<", 1),
    ("CAPABILITIES", "<", 0),
)
LONGEST_CELL = 34


def lines(snapshot: Snapshot, usages: Mapping[int, Usage], width: int, *, cut: bool = False) -> list[str]:
    """What to print, each line at most `width` (at least 80) columns wide. `usages` goes by pid."""
    width = max(width, NARROWEST)
    text = [*(part for line in _head(snapshot.overview) for part in _wrapped(line, width)), ""]
    text += _table([_cells(row, usages.get(row.pid, Usage())) for row in snapshot.processes], width)
    exits = [printable(f"{row.name}: last exit: {row.last_exit}") for row in snapshot.processes if row.last_exit]
    text += ["", *exits] if exits else []
    text += ["", "The list is longer than one answer may be; the rest is left out."] if cut else []
    return [line[:width].rstrip() for line in text]


def duration(seconds: float) -> str:
    """Two units at most: 12s, 3m12s, 2h05m, 3d04h."""
    whole = max(0, int(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h"
    if hours:
        return f"{hour}h{minute:02}m"
    return f"{minute}m{second:02}s" if minute else f"{second}s"


def _head(overview: Overview) -> list[str]:
    missing = f" (without {', '.join(overview.missing)})" if overview.missing else ""
    counters = overview.counters
    return [
        printable(f"agent-supervisor {overview.version}, phase {overview.phase}, up {duration(overview.uptime_s)}"),
        printable(f"provisioning: {overview.status.sentence}"),
        printable(f"host: {overview.host}; goal state: {overview.incarnation or 'none yet'}"),
        printable(f"confinement: {overview.confinement}{missing}"),
        f"restarts {counters.restarts}, violations {counters.violations}, refused {counters.refused}",
    ]


def _wrapped(line: str, width: int) -> list[str]:
    """All of a sentence: a failure's reason is not cut off where the terminal ends."""
    return textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)


def _cells(row: ProcessRow, usage: Usage) -> list[str]:
    cells = [
        row.name,
        str(row.pid or "-"),
        str(row.uid),
        row.state,
        duration(row.since_s),
        str(row.restarts),
        _mib(usage.pss_bytes),
        _mib(usage.rss_bytes),
        "-" if usage.cpu_s is None else f"{usage.cpu_s:.2f}s",
        str(row.filters),
        row.level or "-",
        _few(row.capabilities),
    ]
    return [printable(cell)[:LONGEST_CELL] for cell in cells]


def _table(rows: Sequence[list[str]], width: int) -> list[str]:
    grid = [[title for title, _, _ in COLUMNS], *rows]
    widths = [max(len(row[index]) for row in grid) for index in range(len(COLUMNS))]
    shown = list(range(len(COLUMNS)))
    for index in sorted(shown, key=lambda index: COLUMNS[index][2]):
        if sum(widths[i] + len(GAP) for i in shown) - len(GAP) > width and COLUMNS[index][2]:
            shown.remove(index)
    return [GAP.join(f"{row[index]:{COLUMNS[index][1]}{widths[index]}}" for index in shown) for row in grid]


def _few(capabilities: Sequence[str]) -> str:
    """The names while they are few; beyond that, how many."""
    text = ",".join(capabilities) or "none"
    return text if len(text) <= LONGEST_CELL else f"{len(capabilities)} capabilities"


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / (1 << 20):.1f}M"
