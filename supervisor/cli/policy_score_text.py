# SPDX-License-Identifier: Apache-2.0
"""Owns how `policy score` looks: a table, then what is to be known about it. Pure."""

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from supervisor.cli.policy_systemd import MISSING

if TYPE_CHECKING:
    from policy.exposure import Shift
    from supervisor.cli.policy_score import Row, Scores

WIDTH = 80
SHOWN_PAIRS = 3


def lines(scores: "Scores") -> list[str]:
    """What to print, at most 80 columns wide."""
    paragraphs = list(_notes(scores))
    told = [part for paragraph in paragraphs for part in textwrap.wrap(paragraph, WIDTH, subsequent_indent="  ")]
    shifts = [] if scores.shifts is None else ["", *_ranking(len(scores.rows), scores.shifts)]
    return [*_table(scores.rows), "", *told, *shifts]


def _table(rows: "list[Row]") -> Iterator[str]:
    width = max(len("KIND"), *(len(row.kind) for row in rows))
    yield f"{'KIND':{width}}  {'INDEX':>5}  {'SYSTEMD':>7}  {'BUDGET':>6}  MOST OF THE INDEX"
    for row in rows:
        systemd = "-" if row.systemd is None else f"{row.systemd.exposure:.1f}"
        budget = "-" if row.budget is None else f"{row.budget:.1f}"
        most = sorted(((value, name) for name, value in row.parts.items() if value >= 0.5), reverse=True)[:2]
        words = ", ".join(f"{name} {value:.0f}" for value, name in most)
        # Whose it is says more than what it may do.
        words = row.note.partition(",")[0] or words
        mark = "OVER  " if row.is_over else ""
        yield f"{row.kind:{width}}  {row.index:5.1f}  {systemd:>7}  {budget:>6}  {mark}{words}".rstrip()


def _notes(scores: "Scores") -> Iterator[str]:
    yield "INDEX: 0 to 100, 100 being root with no confinement at all; by the policy, see policy/exposure.toml."
    yield from (f"{row.kind}: {row.note}." for row in scores.rows if row.note)
    if not scores.systemd:
        yield f"SYSTEMD: {MISSING}."
        return
    others = ", ".join(f"{name} {value:.1f}" for name, value in scores.surveyed.items())
    yield f"SYSTEMD: 0 to 10, of the exported units, by systemd-analyze {scores.systemd}; for comparison: {others}."
    if scores.installed is None:
        yield "The installed unit: none was found (--unit FILE)."
        return
    yield (
        f"The installed unit itself: {scores.installed.exposure:.1f} {scores.installed.word} ({scores.unit}). It is "
        "all that systemd applies, and as wide as the spawner's work needs it. No credit is claimed for the exported "
        "units: what confines each process is our own jail."
    )


def _ranking(kinds: int, shifts: "list[Shift]") -> Iterator[str]:
    pairs = kinds * (kinds - 1) // 2
    worst = max((len(shift.pairs) for shift in shifts), default=0)
    yield f"Each weight 50 % less or more: at most {worst} of {pairs} pairs of kinds change places."
    for shift in sorted(shifts, key=lambda shift: -len(shift.pairs)):
        some = ", ".join(f"{lower} and {higher}" for lower, higher in shift.pairs[:SHOWN_PAIRS])
        more = f", and {len(shift.pairs) - SHOWN_PAIRS} more" if len(shift.pairs) > SHOWN_PAIRS else ""
        text = f"{shift.weight} x {shift.factor}: {len(shift.pairs)}: {some}{more}"
        yield from textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
