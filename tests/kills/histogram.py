# SPDX-License-Identifier: Apache-2.0
"""Owns the table of gaps and kills, by kind of process and class of effect. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from tests.kills.calls import CLASSES
from tests.kills.campaign import Outcome
from tests.kills.killer import Gap


def histogram(outcome: Outcome) -> str:
    """The table of a campaign over provisioning, and its summary."""
    return "\n".join([*table(outcome.gaps, outcome.chosen, outcome.hits), summary(outcome)])


def table(all_gaps: Sequence[Gap], chosen: Sequence[Gap], hits: Mapping[Gap, int]) -> list[str]:
    """A line for each process, a column for each class of effect; in a cell "hit of chosen", then all the gaps."""
    rows = [["killed", *CLASSES, "all", "gaps"]]
    for process in sorted({gap.process for gap in all_gaps}):
        own = [gap for gap in chosen if gap.process == process]
        cells = [_cell(hits, [gap for gap in own if gap.kind == kind]) for kind in CLASSES]
        rows.append([process, *cells, _cell(hits, own), str(sum(gap.process == process for gap in all_gaps))])
    totals = [_cell(hits, [gap for gap in chosen if gap.kind == kind]) for kind in CLASSES]
    rows.append(["all", *totals, _cell(hits, chosen), str(len(all_gaps))])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]


def summary(outcome: Outcome) -> str:
    """The run in one line."""
    return (
        f"{outcome.hits.total()} kills in {outcome.boots} boots, {len(outcome.missed)} of {len(outcome.chosen)} gaps "
        f"missed, {len(outcome.wrong)} boots with another end than an undisturbed one; Ready told again "
        f"{outcome.repeated_readies} times because nobody had noted it yet"
    )


def _cell(hits: Mapping[Gap, int], gaps: Iterable[Gap]) -> str:
    of = list(gaps)
    return f"{sum(hits.get(gap, 0) > 0 for gap in of)}/{len(of)}" if of else "-"
