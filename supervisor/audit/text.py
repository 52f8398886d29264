# SPDX-License-Identifier: Apache-2.0
"""Owns how an audit looks on a terminal: a report in, lines out. Pure."""

from supervisor.audit.findings import Check, Finding, Report, Subject
from supervisor.cli.printable import printable

_MARKS = {"ok": "ok", "red": "RED", "unseen": "?", "absent": "absent", "not-applied": "-"}
_WIDTH = 20
ONLY_DEEP = "Only --deep sees which filters are loaded, secure bits, Landlock, and what keeps memory and life."


def lines(report: Report) -> list[str]:
    """A block a subject, a line a check, below it each finding; at the end what it comes to."""
    shown = []
    for subject in report.subjects:
        shown += [*_subject(subject), ""]
    shown += [f"note: {printable(note)}" for note in report.notes]
    return [*shown, *_sum(report)]


def _subject(subject: Subject) -> list[str]:
    threads = f", {subject.threads} threads" if subject.threads > 1 else ""
    head = f"{subject.name} (process {subject.pid}{threads})" if subject.pid else subject.name
    return [printable(head), *(line for check in subject.checks for line in _check(check))]


def _check(check: Check) -> list[str]:
    note = f"  {check.note}" if check.note else ""
    first = f"  {check.name:<{_WIDTH}}{_MARKS[check.verdict]:<7}{note}".rstrip()
    return [printable(first), *(printable(f"      {_finding(finding)}") for finding in check.findings)]


def _finding(finding: Finding) -> str:
    thread = f"thread {finding.thread}: " if finding.thread is not None else ""
    return f"{thread}{finding.found}; written: {finding.written} ({finding.where})"


def _sum(report: Report) -> list[str]:
    told = (
        f"{report.count('ok')} checks as written, {report.count('red')} red; {report.count('absent')} of which this "
        f"kernel lacks the mechanism; {report.count('unseen')} not to be seen; {report.count('not-applied')} not asked "
        "for."
    )
    return [told] if report.deep else [told, ONLY_DEEP]
