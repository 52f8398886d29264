# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.bench`: takes the measurements and prints them; status 1 when a ratio or a count is over budget.

NAME=N repeats a measurement N times (`boot=15`); for `idle` N is how many seconds the agent is watched (`idle=3600`:
less than three minutes count what comes once a minute too often or not at all).
"""

import argparse
import compileall
import os
import subprocess
import sys
from collections.abc import Callable

from tests.bench import (
    boot,
    exposure,
    extensions,
    firewall,
    idle,
    junk,
    kill,
    messages,
    news,
    privileged,
    siege,
    signing,
    workers,
)
from tests.bench.samples import Row, in_unit, timed
from tests.bench.table import broken, table
from tests.fabric.lab import PROJECT

Measurement = Callable[[int], list[Row]]
# Name on the command line -> (measurement, how often it is repeated). All but three need root: they run in a lab.
MEASUREMENTS: dict[str, tuple[Measurement, int]] = {
    "messages": (messages.measure, 2000),
    "exposure": (exposure.measure, 1),
    "signing": (signing.measure, 1000),
    "privileged": (privileged.measure, 1),
    "workers": (workers.measure, 40),
    "siege": (siege.measure, 200),
    "boot": (boot.measure, 7),
    "kill": (kill.measure, 5),
    "idle": (idle.measure, 180),
    "news": (news.measure, 15),
    "junk": (junk.measure, 2),
    "extensions": (extensions.measure, 15),
    "firewall": (firewall.measure, 100),
}
WITHOUT_ROOT = ("messages", "exposure", "signing")
# What an installed agent has as byte code. In a lab the project can't be written to: each start would compile it anew.
PACKAGES = ("ipc", "policy", "supervisor", "workers", "tests")


def calibrate(times: int) -> Row:
    """How long a bare interpreter takes here: what all times are to be read against."""
    command = [sys.executable, "-I", "-c", "pass"]
    return Row("python3 -I -c pass", "ms", in_unit(timed(lambda: subprocess.run(command, check=True), times), "ms"))


def main() -> int:
    """Measure what the command line names; 1 when a binding budget is broken."""
    chosen = _chosen()
    if os.geteuid() != 0 and (left_out := chosen.keys() - set(WITHOUT_ROOT)):
        print(f"left out, since they need root: {', '.join(sorted(left_out))}", file=sys.stderr)
        chosen = {name: times for name, times in chosen.items() if name in WITHOUT_ROOT}
    for package in PACKAGES:
        compileall.compile_dir(PROJECT / package, quiet=1)
    calibration = calibrate(21)
    rows: list[Row] = []
    for name, times in chosen.items():
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        rows += MEASUREMENTS[name][0](times)
    print(table(calibration, rows))
    over = broken(rows)
    if over:
        print("over budget: " + ", ".join(name.strip() for name in over), file=sys.stderr)
    return 1 if over else 0


def _chosen() -> dict[str, int]:
    """Name -> how often, in the order of the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "only", nargs="*", metavar="NAME[=N]", help=f"of {', '.join(MEASUREMENTS)}; all when none is named"
    )
    chosen = {name: usual for name, (_, usual) in MEASUREMENTS.items()}
    words = parser.parse_args().only
    if not words:
        return chosen
    asked: dict[str, int] = {}
    for word in words:
        name, _, times = word.partition("=")
        if name not in chosen or not (times or "1").isdecimal() or not int(times or 1):
            parser.error(f"no such measurement, or no such number of times: {word}")
        asked[name] = int(times) if times else chosen[name]
    return {name: asked[name] for name in chosen if name in asked}


if __name__ == "__main__":
    sys.exit(main())
