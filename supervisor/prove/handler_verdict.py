# SPDX-License-Identifier: Apache-2.0
"""Owns what became of the cases of handlers' classes beside what was expected, and how that is told. Pure."""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from ipc.messages.extension_rules import HandlerClass
from supervisor.prove.handler_attempts import Outcome
from supervisor.prove.handler_cases import CLASSES, WAYS, Case, Expected, Way

State = Literal["reached", "refused", "not applicable", "broken"]
KEYS = "anothers-keys"
_SHORT = {"not applicable": "n/a"}


class Finding(msgspec.Struct, frozen=True):
    """One case, one class, one way. `detail`: what a line printed that counts, or what the last word was of who was
    refused, or why nothing is shown."""

    case: str
    handler_class: HandlerClass
    way: Way
    state: State
    expected: Expected
    detail: str = ""

    @property
    def differs(self) -> bool:
        """Whether it is not as it should be. What can't be shown on this machine is neither."""
        return self.state not in {"not applicable", self.expected}


class HandlersProof(msgspec.Struct, frozen=True):
    """All of it; `absent` says why there is none, "" where there is, and `problem` what went wrong when it was made."""

    cases: tuple[Case, ...] = ()
    findings: tuple[Finding, ...] = ()
    absent: str = ""
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is all as it should be, or not to be had."""
        return not self.wrong and not self.problem

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """What differs from what is expected."""
        return tuple(finding for finding in self.findings if finding.differs)


def name_of(case: Case, way: Way) -> str:
    """Of an attempt."""
    return f"{case.id}.{way}"


def judge(
    case: Case, handler_class: HandlerClass, way: Way, got: Mapping[str, Outcome], bare: Mapping[str, Outcome]
) -> Finding:
    """By what came of all attempts from the class, and of the same as root without confinement; by name."""
    outcome = got.get(name_of(case, way))
    shown = bare.get(name_of(case, "determined" if case.evidence == "determined" else way))

    def finding(state: State, detail: str) -> Finding:
        return Finding(case.id, handler_class, way, state, case.expected(handler_class, way), detail)

    if outcome is None or outcome.reached is None:
        return finding("broken", outcome.said if outcome else "it was not tried")
    if outcome.reached:
        return finding("reached", outcome.printed if case.counts else "")
    if case.evidence != "none" and not (shown and shown.reached):
        return finding("not applicable", f"as root: {shown.said if shown else 'not tried'}")
    return finding("refused", outcome.said)


def as_json(proof: HandlersProof) -> dict[str, object]:
    """Of `prove --json` the key "handlers"; docs/prove.schema.json says what is in it."""
    by_id = {case.id: case for case in proof.cases}
    return {
        "absent": proof.absent,
        "problem": proof.problem,
        "holds": proof.holds,
        "cases": [
            {
                "id": finding.case,
                "number": by_id[finding.case].number,
                "title": by_id[finding.case].title,
                "class": finding.handler_class,
                "way": finding.way,
                "tried": by_id[finding.case].line(finding.way),
                "state": finding.state,
                "expected": finding.expected,
                "detail": finding.detail,
                "why": by_id[finding.case].why if finding.state == "reached" else "",
            }
            for finding in proof.findings
        ],
    }


def lines(proof: HandlersProof, *, case_by_case: bool) -> list[str]:
    """The report for people."""
    if proof.absent:
        return [f"Handlers' classes are not proven: {proof.absent}"]
    if proof.problem:
        return [f"Handlers' classes could not be proven: {proof.problem}"]
    told = ["Vendors' commands, started as any handler's: what they reach by the plain way / as one who means it", ""]
    told += [*_table(proof), ""]
    if case_by_case:
        for finding in proof.findings:
            told.append(
                f"  {finding.handler_class}, {finding.way}: {finding.case}: {finding.state} {finding.detail}"[:160]
            )
        told.append("")
    told += [*_keys(proof.findings), *_reached(proof)]
    return [*told, *_conclusion(proof)]


def _table(proof: HandlersProof) -> list[str]:
    states = {(each.case, each.handler_class, each.way): each for each in proof.findings}
    width = max(len(case.title) for case in proof.cases)
    told = [f"{'':2}  {'CASE':{width}}" + "".join(f"  {name.upper():19}" for name in CLASSES).rstrip()]
    for case in proof.cases:
        cells = []
        for name in CLASSES:
            words = [_cell(states[case.id, name, way]) for way in WAYS if (case.id, name, way) in states]
            cells.append(f"  {' / '.join(words):19}")
        told.append(f"{case.number or '-':>2}  {case.title:{width}}{''.join(cells)}".rstrip())
    return told


def _cell(finding: Finding) -> str:
    return f"{'!' if finding.differs else ''}{_SHORT.get(finding.state, finding.state)}"


def _keys(findings: Iterable[Finding]) -> list[str]:
    """How many keys of others each class comes by."""
    counts: dict[str, list[str]] = {}
    for finding in findings:
        if finding.case == KEYS:
            count = finding.detail if finding.state == "reached" else "none" if finding.state == "refused" else "?"
            counts.setdefault(finding.handler_class, []).append(count)
    return [
        f"Private keys in Lib.Dir but its own: {name}: in its view {said[0]}, as one who means it {said[-1]}"
        for name, said in counts.items()
    ]


def _reached(proof: HandlersProof) -> list[str]:
    """Everything that is reached, and why it is."""
    told = []
    for name in CLASSES:
        by_way = {
            way: [
                each.case
                for each in proof.findings
                if (each.handler_class, each.way, each.state) == (name, way, "reached")
            ]
            for way in WAYS
        }
        cases = [case for case in proof.cases if any(case.id in found for found in by_way.values())]
        if cases:
            told += ["", f"{name} reaches, and why that is as it is:"]
        for case in cases:
            way = "" if case.id in by_way["plain"] else ", as one who means it"
            told.append(f"  {case.title}{way}: {case.why}")
    return told


def _conclusion(proof: HandlersProof) -> list[str]:
    told = [""]
    for name in CLASSES:
        mine = [each for each in proof.findings if each.handler_class == name]
        counts = [
            (state, sum(each.state == state for each in mine)) for state in ("refused", "reached", "not applicable")
        ]
        told.append(
            f"{name}: {len(mine)} attempts: {', '.join(f'{count} {state}' for state, count in counts if count)}"
        )
    told += ["Only contained is a boundary: a command of class compat is root."] if not proof.wrong else []
    titles = {case.id: case.title for case in proof.cases}
    for finding in proof.wrong:
        told.append(
            f"  {finding.handler_class}: {titles[finding.case]} [{finding.case}, {finding.way}]: "
            f"{finding.state.upper()}, expected is {finding.expected}"
            + (f" ({finding.detail})" if finding.state != "reached" else "")
        )
    return told
