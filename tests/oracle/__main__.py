# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.oracle`, as root: the distribution's agent against the emulated host, and ours beside it, as tables.

Its exit status is 0 only if nothing is unexplained.
"""

import os
import sys
import textwrap
from collections import Counter

from tests.fabric.wire_book import RULES
from tests.oracle.expected import DIFFERENCES, REQUESTS
from tests.oracle.package import NoPackage
from tests.oracle.run import FORBIDDEN, MEDIA, Records, Run, line, perform
from tests.oracle.verdict import differing, heard, judged, refusals, unexplained

WIDTH = 60


def main() -> int:
    """Run it and print it; 0 when nothing is wrong."""
    if os.geteuid() != 0:
        print("it makes namespaces and mounts: run it as root", file=sys.stderr)
        return 1
    try:
        run = perform()
    except NoPackage as missing:
        print(missing, file=sys.stderr)
        return 1
    print(
        f"{run.package.name} {run.package.version} against the emulated host, {len(MEDIA)} media, {run.seconds:.1f} s\n"
    )
    for name in MEDIA:
        _tell_requests(name, run.theirs[name].records)
    _tell_rules(run)
    for name in MEDIA:
        _tell_facts(name, run)
    print(f"Where both must fail (the account {FORBIDDEN.user} is the system's)")
    for name, records in zip(("theirs", "ours"), run.failed, strict=True):
        print(f"  {name:<7} " + "; ".join(" ".join(filter(None, report)) for report in heard(records)))
    print()
    wrong = unexplained(run)
    print("\n".join(wrong) or "Nothing is unexplained.")
    return 1 if wrong else 0


def _tell_requests(name: str, records: Records) -> None:
    print(f'What it asked, medium "{name}"')
    print(f"  {'request':<22} {'times':>5} {'status':>6} {'rules met':>9}  verdict")
    rows: Counter[tuple[str, str, str]] = Counter()
    met: dict[str, int] = {}
    for record in records:
        kind = next((kind for kind, form in REQUESTS.items() if form.fullmatch(line(record))), line(record))
        verdict = record["verdict"] if not record["rule"] else f'{record["verdict"]} by the rule "{record["rule"]}"'
        rows[kind, str(record["status"]), verdict] += 1
        met[kind] = max(met.get(kind, 0), len(record["passed"]))
    for (kind, status, verdict), times in rows.items():
        print(f"  {kind:<22} {times:>5} {status:>6} {met[kind]:>9}  {verdict}")
    print()


def _tell_rules(run: Run) -> None:
    counts = judged(run)
    print(f"The rules: {len(RULES)}, of which {len(counts)} let a request of it pass")
    _list("how often", ", ".join(f"{rule} {counts[rule]}" for rule in RULES if rule in counts))
    print(f'  refused but for "emulated": {len(refusals(run))}\n')


def _tell_facts(name: str, run: Run) -> None:
    theirs, ours = run.theirs[name].facts, run.ours[name].facts
    other = differing(run, name)
    print(f'What stands there afterwards, medium "{name}": {len(theirs) - len(other)} of {len(theirs)} facts agree')
    _list("agree", ", ".join(fact for fact in theirs if fact not in other))
    for fact in other:
        print(f"  {fact}: theirs {_short(theirs[fact])}, ours {_short(ours[fact])}")
        _list("", DIFFERENCES[fact].why if fact in DIFFERENCES else "UNEXPLAINED")
    print()


def _list(what: str, text: str) -> None:
    head = f"  {what}: " if what else "    "
    print(textwrap.fill(text, 118, initial_indent=head, subsequent_indent="    "))


def _short(text: str) -> str:
    """One line of it."""
    shown = repr(text) if "\n" in text or not text else text
    return shown if len(shown) <= WIDTH else f"{shown[: WIDTH - 3]}..."


if __name__ == "__main__":
    sys.exit(main())
