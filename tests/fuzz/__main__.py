# SPDX-License-Identifier: Apache-2.0
"""`make fuzz`: every format, FUZZ_INPUTS inputs each, a line of figures each; fails on any finding.

`python -m tests.fuzz [--inputs N] [--first N] [--processes N] [--outcomes] [FORMAT ...]`; a finding names its input,
and `--first INPUT --inputs 1 FORMAT` repeats it.
"""

import argparse
import os
import sys

from tests.fuzz import channel_targets, package_target
from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS

FORMATS = (*TARGETS, *channel_targets.TARGETS, *package_target.TARGETS)


def main() -> int:
    """The number of findings, at most 100."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"{', '.join(FORMATS)}; all if none is named")
    parser.add_argument("--inputs", type=int, default=10_000, help="how many of each format, of a costly one less")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--outcomes", action="store_true", help="list what the readers said, and how often")
    given = parser.parse_args()
    found = 0
    for name in given.formats or FORMATS:
        inputs = max(1, given.inputs // channel_targets.COSTS.get(name, 1))
        report = fuzz(name, inputs, first=given.first, processes=min(given.processes, inputs))
        print(report, flush=True)
        for finding in report.findings:
            print(f"  input {finding['input']}: {finding['error']}", flush=True)
        for outcome, count in report.outcomes.most_common() if given.outcomes else ():
            print(f"  {count:8} {outcome[:150]}")
        found += len(report.findings)
    return min(found, 100)


if __name__ == "__main__":
    sys.exit(main())
