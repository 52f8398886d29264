# SPDX-License-Identifier: Apache-2.0
"""Owns how a proof is told: a table of kinds beside root without confinement, case by case, or as JSON. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from supervisor.prove import handler_verdict
from supervisor.prove.catalogue import Attack
from supervisor.prove.handler_verdict import HandlersProof
from supervisor.prove.verdict import State, Verdict

FORMAT = 1
STATES: tuple[State, ...] = ("stopped", "granted", "succeeded", "not applicable", "broken")


class Row(msgspec.Struct, frozen=True):
    """One kind of process: how many cases are how. `reference` is how many of the applicable ones succeed as root
    without confinement, as the reference agent runs: all of them, by the rule of what is applicable."""

    kind: str
    stopped: int
    granted: int
    succeeded: int
    not_applicable: int
    broken: int
    reference: int


class Proof(msgspec.Struct, frozen=True):
    """Everything that was found. `without` are the controls that were left out, none in earnest; `handlers` None where
    handlers' classes were not asked for."""

    attacks: tuple[Attack, ...]
    verdicts: tuple[Verdict, ...]
    kernel: str
    without: tuple[str, ...] = ()
    handlers: HandlersProof | None = None

    @property
    def holes(self) -> tuple[Verdict, ...]:
        """What must not be: cases that succeeded beyond the policy, and cases that could not be tried."""
        return tuple(verdict for verdict in self.verdicts if verdict.state in {"succeeded", "broken"})


def rows(verdicts: Iterable[Verdict]) -> tuple[Row, ...]:
    """One row a kind, in the order of the verdicts."""
    counts: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        counts.setdefault(verdict.kind, Counter())[verdict.state] += 1
        counts[verdict.kind]["reference"] += verdict.bare == "succeeded" and verdict.state != "broken"
    return tuple(
        Row(
            kind,
            count["stopped"],
            count["granted"],
            count["succeeded"],
            count["not applicable"],
            count["broken"],
            count["reference"],
        )
        for kind, count in counts.items()
    )


def as_json(proof: Proof) -> bytes:
    """One object; docs/prove.md says what is in it."""
    by_id = {attack.id: attack for attack in proof.attacks}
    return msgspec.json.encode(
        {
            "format": FORMAT,
            "kernel": proof.kernel,
            "without": proof.without,
            "holds": not proof.holes and (proof.handlers is None or proof.handlers.holds),
            "kinds": rows(proof.verdicts),
            "cases": [_case(by_id[verdict.attack], verdict) for verdict in proof.verdicts],
            "absent": [_absent(attack) for attack in proof.attacks if attack.absent],
        }
        | ({"handlers": handler_verdict.as_json(proof.handlers)} if proof.handlers else {})
    )


def lines(proof: Proof, *, case_by_case: bool) -> list[str]:
    """The report for people."""
    titles = {attack.id: attack for attack in proof.attacks}
    told = [*_head(proof), ""]
    if case_by_case:
        for kind in dict.fromkeys(verdict.kind for verdict in proof.verdicts):
            told += [f"{kind}:", *_cases(titles, [each for each in proof.verdicts if each.kind == kind]), ""]
    told += _table(rows(proof.verdicts))
    told += ["", *_reach(titles, proof.verdicts), *_absences(proof.attacks)]
    return [*told, *_conclusion(titles, proof)]


def _head(proof: Proof) -> list[str]:
    tried = sum(1 for attack in proof.attacks if attack.probe)
    head = f"{tried} attacks, each from the confinement of its process and as root without any, on Linux {proof.kernel}"
    if not proof.without:
        return [head]
    return [head, f"WITHOUT {', '.join(proof.without)}: what succeeds here is what they are there for"]


def _table(table: Sequence[Row]) -> list[str]:
    width = max((len(row.kind) for row in table), default=4)
    told = [f"{'KIND':{width}}  STOPPED  GRANTED  BEYOND POLICY  NOT APPLICABLE  AS ROOT, UNCONFINED"]
    for row in table:
        applicable = row.stopped + row.granted + row.succeeded
        told.append(
            f"{row.kind:{width}}  {row.stopped:7}  {row.granted:7}  {row.succeeded + row.broken:13}"
            f"  {row.not_applicable:14}  {row.reference} of {applicable} succeed"
        )
    return told


HOW = {
    "stopped": "stopped by",
    "granted": "granted by",
    "not applicable": "not applicable,",
    "succeeded": "SUCCEEDED",
    "broken": "NOT TRIED",
}


def _cases(titles: Mapping[str, Attack], verdicts: Sequence[Verdict]) -> list[str]:
    told = []
    for verdict in verdicts:
        number = titles[verdict.attack].number or "-"
        how = f"{HOW[verdict.state]} {verdict.control}".rstrip()
        detail = f"({verdict.detail})" if verdict.control else verdict.detail
        told.append(f"  {number:>2}  {verdict.attack:38}  {how} {detail}"[:160])
    return told


def _reach(titles: Mapping[str, Attack], verdicts: Iterable[Verdict]) -> list[str]:
    """Every granted reach by name."""
    granted: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        if verdict.state == "granted":
            granted.setdefault((verdict.attack, verdict.detail), []).append(verdict.kind)
    if not granted:
        return []
    told = ["Granted, because a policy says so:"]
    for (attack, detail), kinds in granted.items():
        told.append(f"  {titles[attack].title}: {', '.join(kinds)} ({detail})")
    return [*told, ""]


def _absences(attacks: Sequence[Attack]) -> list[str]:
    absent = [attack for attack in attacks if attack.absent]
    if not absent:
        return []
    told = ["Not tried here, counted apart:"]
    told += [f"  {attack.number or '-':>2}  {attack.title}: {attack.absent}" for attack in absent]
    return [*told, ""]


def _conclusion(titles: Mapping[str, Attack], proof: Proof) -> list[str]:
    counts = Counter(verdict.state for verdict in proof.verdicts)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    told = [f"{len(proof.verdicts)} cases: {summary}"]
    for verdict in proof.holes:
        tried = verdict.state == "succeeded"
        word = "SUCCEEDED beyond its policy" if tried else f"could not be tried: {verdict.detail}"
        told.append(f"  {verdict.kind}: {titles[verdict.attack].title} [{verdict.attack}]: {word}")
    return told


def _case(attack: Attack, verdict: Verdict) -> dict[str, object]:
    return {
        "id": attack.id,
        "number": attack.number,
        "title": attack.title,
        "from": attack.origin,
        "must": attack.must,
        "kind": verdict.kind,
        "state": verdict.state,
        "control": verdict.control,
        "meant": attack.controls,
        "detail": verdict.detail,
        "unconfined": verdict.bare,
    }


def _absent(attack: Attack) -> dict[str, object]:
    return {
        "id": attack.id,
        "number": attack.number,
        "title": attack.title,
        "why": attack.absent,
        "tested": attack.tested,
    }
