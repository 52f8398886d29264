# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench`: takes the measurements and prints them; status 1 when a ratio or a count is over budget."""

import argparse
import subprocess
import sys
from collections.abc import Callable

from tests.bench import messages
from tests.bench.samples import Row, in_unit, timed
from tests.bench.table import broken, table

Measurement = Callable[[int], list[Row]]
# Name on the command line -> (measurement, how often it is repeated).
MEASUREMENTS: dict[str, tuple[Measurement, int]] = {"messages": (messages.measure, 2000)}


def calibrate(times: int) -> Row:
    """How long a bare interpreter takes here: what all times are to be read against."""
    command = [sys.executable, "-I", "-c", "pass"]
    return Row("python3 -I -c pass", "ms", in_unit(timed(lambda: subprocess.run(command, check=True), times), "ms"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}; all when none is named")
    chosen = parser.parse_args().only or list(MEASUREMENTS)
    if unknown := set(chosen) - set(MEASUREMENTS):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    calibration = calibrate(21)
    rows: list[Row] = []
    for name in chosen:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        measurement, times = MEASUREMENTS[name]
        rows += measurement(times)
    print(table(calibration, rows))
    over = broken(rows)
    if over:
        print("over budget: " + ", ".join(name.strip() for name in over), file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
