# SPDX-License-Identifier: Apache-2.0
"""Owns the table of every bad input: what was reported, what was left on disk; made by a run, read back by a test.

Runs as a command (`python -m tests.fabric.bad_input [--write FILE]`) or in a test. It judges nothing.
"""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

from tests.fabric import bad_input_dvd, bad_input_host, bad_input_machine, bad_input_ovf
from tests.fabric.bad_input import Case, Play, Played, Row
from tests.fabric.lab import PROJECT

DOCUMENT = PROJECT / "docs/bad-input.md"
PLAYS: tuple[Play, ...] = (
    *bad_input_dvd.PLAYS,
    *bad_input_ovf.PLAYS,
    *bad_input_host.PLAYS,
    *bad_input_machine.PLAYS,
)
GROUPS = {
    "DVD": "What is in the drive. Tests wait 1 s for a medium; `Provisioning.MediaTimeout` is 120 s by default.",
    "OVF": "What stands in `ovf-env.xml`. Everything is judged before anything is changed.",
    "host": "What answers at 168.63.129.16. Until it answers well, `ps` says what is wrong, nothing is changed,\n"
    "and the two resident processes sleep.",
    "machine": "What the agent has to work with. What was done stays done; the next start does the rest.",
}
HEAD = """# Bad input

Every kind of bad input that is tested, through the real processes: what was reported (to the host, in the log and by
`agent-supervisor ps`, in the same words), what was left on disk beside the agent's own journal, log and host keys that
are not in force yet, and what came of the next start once it was mended. The processes live on in every case. Made by
`python -m tests.fabric.bad_input --write docs/bad-input.md`, from a run.
"""
TITLE = "| case | reported | left on disk | once mended |\n| --- | --- | --- | --- |\n"
LINE = re.compile(r"^\| (?P<name>.*?) \| .* \|$")


def cases() -> list[Case]:
    """Every case that there is."""
    return [case for play in PLAYS for case in play.cases]


def render(rows: Iterable[Row]) -> str:
    """The document."""
    by_group: dict[str, list[Row]] = {group: [] for group in GROUPS}
    for row in rows:
        by_group[row.case.group].append(row)
    parts = [HEAD]
    for group, found in by_group.items():
        lines = "".join(_line(row) for row in sorted(found, key=lambda row: row.case.name.casefold()))
        parts.append(f"\n## {group}\n\n{GROUPS[group]}\n\n{TITLE}{lines}")
    return "".join(parts)


def listed(document: str) -> list[tuple[str, str]]:
    """Group and name of every case in the document, in its order."""
    found, group = [], ""
    for line in document.splitlines():
        if line.startswith("## "):
            group = line.removeprefix("## ")
        match = LINE.match(line)
        if match is not None and match["name"] not in {"case", "---"}:
            found.append((group, match["name"]))
    return found


def _line(row: Row) -> str:
    cells = (row.case.name, row.reported, row.left, row.afterwards or "")
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def main() -> None:
    """Play every case and print the table, or write it."""
    parser = argparse.ArgumentParser(prog="bad_input", description=main.__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE")
    given = parser.parse_args()
    played = Played(PLAYS)
    try:
        text = render(played.rows())
    finally:
        played.close()
    if given.write is None:
        print(text, end="")
    else:
        given.write.write_text(text, encoding="utf-8")
