# SPDX-License-Identifier: Apache-2.0
"""Owns docs/least.md: for each grant the job that fails when it is taken away. Pure."""

import re
from collections.abc import Iterable
from itertools import groupby

from tests.fabric.lab import PROJECT
from tests.least import elsewhere
from tests.least.experiments import Finding

LONGEST = 110
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\S+ ")
HEAD = """# Least by experiment

For every capability, path, request, socket family and group of system calls of every policy: the job that failed when
that one grant was taken away, and how. Made by `make least ARGS='--write docs/least.md'` from experiments with the real
processes in their real confinement (`tests/least/`); a grant without which every job succeeds fails a test.
"access" is a path that would do with less: read instead of write, or without running programs. What only another
machine needs is named with that machine. System calls one by one: `python -m tests.least.calls KIND`.
"""


def page(findings: Iterable[Finding]) -> str:
    """The document."""
    parts = [HEAD]
    for kind, group in groupby(findings, lambda finding: finding.grant.kind):
        parts.append(f"\n## {kind}\n\n| grant | job that needs it | without it |\n|---|---|---|\n")
        parts += [_row(finding) for finding in group]
    return "".join(parts)


def _row(finding: Finding) -> str:
    grant = f"{finding.grant.what} `{finding.grant.name}`"
    if finding.needed:
        return f"| {grant} | {_plain(finding.scenario)} | {_plain(finding.how)} |\n"
    return f"| {grant} | elsewhere | {_plain(elsewhere.reason(finding.grant))} |\n"


def _plain(text: str) -> str:
    """In a cell of a table; without what would be another the next time."""
    here = text.replace(str(PROJECT), "${project}")
    return _MOMENT.sub("", here)[:LONGEST].replace("|", "/").replace("<", "&lt;")
