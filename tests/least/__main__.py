# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.least [KIND...] [--write FILE]`: every grant of every policy, and the job that fails without it.

As root. The exit status is 1 when something is granted that no job needs and no machine elsewhere.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.least import elsewhere, residents
from tests.least.experiments import Finding, find, line
from tests.least.grants import Grant
from tests.least.scenarios import all_scenarios
from tests.least.table import page
from tests.least.variants import RESIDENTS, read


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all experiments of the kinds named; tell each as it comes, and what they come to."""
    parser = argparse.ArgumentParser(prog="python -m tests.least", description="Least privilege, by experiment.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="whose grants to take away (default: all)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table, in Markdown")
    chosen = parser.parse_args(arguments)
    policy = read()
    grants = [grant for grant in policy.grants if not chosen.kinds or grant.kind in chosen.kinds]
    began = time.monotonic()
    findings = find_all(grants)
    unneeded = [each.grant for each in findings if not each.needed and not elsewhere.reason(each.grant)]
    needed = [each.grant for each in findings if each.needed]
    problems = [f"nobody needs {grant}" for grant in unneeded]
    if not chosen.kinds:
        problems += elsewhere.stale(policy.grants, needed, os.uname().machine)
    if chosen.write:
        chosen.write.write_text(page(findings))
    marked = len(findings) - len(needed) - len(unneeded)
    print(f"{len(findings)} grants, {len(needed)} needed here, {marked} elsewhere; {time.monotonic() - began:.0f} s")
    print("\n".join(problems))
    return int(bool(problems))


def find_all(grants: Sequence[Grant]) -> list[Finding]:
    """Workers in rigs, the residents by boots."""
    say = _say
    policy = read()
    found = find(policy, [grant for grant in grants if grant.kind not in RESIDENTS], all_scenarios(), say)
    return found + residents.find(policy, [grant for grant in grants if grant.kind in RESIDENTS], say)


def _say(finding: Finding) -> None:
    mark = "" if finding.needed else f" ({elsewhere.reason(finding.grant)})"
    print(f"{line(finding)}{mark}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
