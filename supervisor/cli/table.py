# SPDX-License-Identifier: Apache-2.0
"""Owns how `ps` looks: a snapshot and measurements in, lines of text for a terminal out. Pure."""

import textwrap
import time
from collections.abc import Mapping, Sequence

from supervisor.cli.measure import Usage
from supervisor.cli.printable import printable
from supervisor.status import HANDLER, HostContact, Overview, ProcessRow, Snapshot

NARROWEST = 80
GAP = "  "

Column = tuple[str, str, int]
# Title, alignment, and how early the column gives way when there is no room for all (0: never).
COLUMNS: tuple[Column, ...] = (
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


def lines(snapshot: Snapshot, usages: Mapping[str, Usage], width: int, *, cut: bool = False) -> list[str]:
    """What to print, each line at most `width` (at least 80) columns wide. `usages` goes by the rows' names."""
    width = max(width, NARROWEST)
    text = [*(part for line in _head(snapshot.overview) for part in wrapped(line, width)), ""]
    text += grid(COLUMNS, [_cells(row, usages.get(row.name, Usage())) for row in snapshot.processes], width)
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


def grid(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """A table with titles, as many of its columns as `width` has room for."""
    cells = [[title for title, _, _ in columns], *rows]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    shown = list(range(len(columns)))
    for index in sorted(shown, key=lambda index: columns[index][2]):
        if sum(widths[i] + len(GAP) for i in shown) - len(GAP) > width and columns[index][2]:
            shown.remove(index)
    return [GAP.join(f"{row[index]:{columns[index][1]}{widths[index]}}" for index in shown) for row in cells]


def mib(size: int | None) -> str:
    """Bytes as MiB, a dash for None."""
    return "-" if size is None else f"{size / (1 << 20):.1f}M"


def utc(wall: float) -> str:
    """Wall time, in seconds since 1970, for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall))


def wrapped(line: str, width: int) -> list[str]:
    """All of a sentence: a failure's reason is not cut off where the terminal ends."""
    return textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)


def _head(overview: Overview) -> list[str]:
    missing = f" (without {', '.join(overview.missing)})" if overview.missing else ""
    counters = overview.counters
    return [
        printable(f"agent-supervisor {overview.version}, phase {overview.phase}, up {duration(overview.uptime_s)}"),
        printable(f"provisioning: {overview.status.sentence}"),
        printable(f"host: {overview.host}; goal state: {overview.incarnation or 'none yet'}"),
        *map(printable, _contact(overview.contact)),
        printable(overview.egress.sentence),
        *([printable(f"secure channel: {overview.secure_channel}")] if overview.secure_channel else []),
        printable(f"confinement: {overview.confinement}{missing}"),
        *([printable(f"policy: {overview.policy.sentence}")] if overview.policy.sentence else []),
        f"restarts {counters.restarts}, violations {counters.violations}, refused {counters.refused}",
        *([f"audit log: {counters.audit_lost} records lost"] if counters.audit_lost else []),
    ]


def _contact(contact: HostContact) -> list[str]:
    """What passes between host and agent; nothing before it has begun."""
    lines = []
    if contact.goal_state:
        outcome = f"; {contact.outcome}" if contact.outcome else ""
        lines += [f"in force: {contact.goal_state}, by the {contact.source}, since {utc(contact.adopted)}{outcome}"]
    if contact.status_accepted:
        lines += [f"status: accepted {utc(contact.status_accepted)}, by the {contact.channel}"]
    if contact.waits:
        lines += [f"waits: {contact.waits}"]
    if contact.telemetry is not None:
        lines += [f"telemetry: {contact.telemetry.sentence}"]
    failed = (
        (contact.polls_failed, "polls", contact.trouble),
        (contact.settings_failed, "vmSettings", contact.settings_trouble),
        (contact.uploads_failed, "uploads", contact.status_trouble),
    )
    lines += [f"{what} failed in a row: {count}, last: {why}" for count, what, why in failed if count]
    if contact.certificate_problems:
        lines += [f"certificates: {contact.certificate_problems} problems, see agent-supervisor certificates"]
    return lines


def _cells(row: ProcessRow, usage: Usage) -> list[str]:
    # Of a handler only a process says whose it is, and what it may: without one there is nothing to show.
    is_empty = row.kind == HANDLER and not row.pid
    cells = [
        row.name,
        str(row.pid or "-"),
        "-" if is_empty else str(row.uid),
        row.state,
        duration(row.since_s),
        str(row.restarts),
        mib(usage.pss_bytes),
        mib(usage.rss_bytes),
        "-" if usage.cpu_s is None else f"{usage.cpu_s:.2f}s",
        "-" if is_empty else str(row.filters),
        row.level or "-",
        "-" if is_empty else _few(row.capabilities),
    ]
    return [printable(cell)[:LONGEST_CELL] for cell in cells]


def _few(capabilities: Sequence[str]) -> str:
    """The names while they are few; beyond that, how many."""
    text = ",".join(capabilities) or "none"
    return text if len(text) <= LONGEST_CELL else f"{len(capabilities)} capabilities"
