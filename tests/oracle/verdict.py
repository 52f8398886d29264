# SPDX-License-Identifier: Apache-2.0
"""Owns the judgement over a run of the oracle: what of it is explained by expected.py, and what is not.

Runs in the test or the command; pure.
"""

from collections import Counter
from collections.abc import Iterator

from tests.fabric.documents import read_health
from tests.fabric.wire_book import RULES, TELEMETRY_RULES
from tests.oracle.expected import DIFFERENCES, EMULATED, NOT_EMULATED, REQUESTS, Difference
from tests.oracle.run import MEDIA, Records, Run, kinds, line


def judged(run: Run) -> Counter[str]:
    """Rule -> how many accepted requests of the distribution's agent were held against it, and passed."""
    accepted = [record for record in _records(run) if record["verdict"] == "accepted"]
    return Counter(rule for record in accepted for rule in record["passed"])


def refusals(run: Run) -> list[str]:
    """Its requests that were refused although the resource is emulated: the fabric is wrong, or has become so."""
    wrong = [record for record in _records(run) if record["verdict"] != "accepted" and record["rule"] != "emulated"]
    return [f"{line(record)}: {record['why']}" for record in wrong]


def differing(run: Run, medium: str) -> list[str]:
    """The facts in which the two agents differ."""
    theirs, ours = run.theirs[medium].facts, run.ours[medium].facts
    return [name for name in theirs if theirs[name] != ours[name]]


def unexplained(run: Run) -> list[str]:
    """Everything that is wrong, one sentence each; empty in a green run."""
    return [*_of_rules(run), *_of_requests(run), *_of_facts(run)]


def heard(records: Records) -> list[tuple[str, str, str]]:
    """The health reports that the host accepted: state, sub-status and description."""
    taken = [record for record in records if record["route"] == "health" and record["verdict"] == "accepted"]
    reports = [read_health(record["body"].encode()) for record in taken]
    return [(report.state, report.sub_status, report.description) for report in reports]


def _of_rules(run: Run) -> Iterator[str]:
    yield from (f"refused: {one}" for one in refusals(run))
    met = set(judged(run))
    for rule in (RULES | TELEMETRY_RULES).keys() - met:
        yield f"no request of it was held against the rule {rule} and passed"


def _of_requests(run: Run) -> Iterator[str]:
    first = run.theirs[next(iter(MEDIA))].records
    for name in REQUESTS.keys() - kinds(first):
        yield f"it never made the request {name}"
    for record in _records(run):
        forms = EMULATED if record["verdict"] == "accepted" else NOT_EMULATED
        if not any(form.fullmatch(line(record)) for form in forms.values()):
            yield f"{record['verdict']}, and not expected so: {line(record)}"


def _of_facts(run: Run) -> Iterator[str]:
    used: set[str] = set()
    for medium, wanted in MEDIA.items():
        theirs, ours = run.theirs[medium].facts, run.ours[medium].facts
        for fact in differing(run, medium):
            known = DIFFERENCES.get(fact)
            found = theirs[fact], ours[fact]
            expected = [] if known is None else [side.format(host_name=wanted.host_name) for side in _both(known)]
            if list(found) != expected:
                yield f"{fact} ({medium}): theirs {found[0]!r}, ours {found[1]!r}"
            used.add(fact)
    for fact, known in DIFFERENCES.items():
        if fact not in used and known.package in {"", run.package.name}:
            yield f"{fact} does not differ any more: take it out of DIFFERENCES"


def _both(known: Difference) -> tuple[str, str]:
    return known.theirs, known.ours


def _records(run: Run) -> Records:
    """All that the distribution's agent has asked, on every medium."""
    return [
        record for records in (*(side.records for side in run.theirs.values()), run.failed[0]) for record in records
    ]
