# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.kills`: kills in every gap, prints the histogram; status 1 when one is missed or an end is wrong.

Four campaigns, over a provisioning, over goal states, over extensions and over a crowd of twenty of them at random
moments; `--only` one of them. `--sample N`: of the first about N boots of each mode, `--kills N`: of the others so many
at least (of the crowd's so many, with a goal state for each five); `--seed` which; `--gap TEXT...`: only
gaps with one of the texts in them.
"""

import argparse
import compileall
import sys

from tests.fabric.lab import PROJECT
from tests.kills import crowd, extensions, goal_states
from tests.kills.campaign import Choice, everything, run, sample
from tests.kills.histogram import histogram

# In a lab the project can't be written to: each start would compile it anew.
PACKAGES = ("ipc", "policy", "supervisor", "workers")
CAMPAIGNS = PROVISIONING, GOAL_STATES, EXTENSIONS, CROWD = "provisioning", "goal-states", "extensions", "crowd"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--only", choices=CAMPAIGNS, help="one of the campaigns")
    parser.add_argument("--sample", type=int, metavar="N", help="about N boots of each mode instead of all gaps")
    parser.add_argument("--kills", type=int, metavar="N", help="with goal states or extensions, at least")
    parser.add_argument("--seed", type=int, default=1, help="which sample")
    parser.add_argument("--gap", metavar="TEXT", nargs="+", help="only gaps with one of the texts in their name")
    parser.add_argument("--names", action="store_true", help="name the gaps in the histogram")
    asked = parser.parse_args()
    for package in PACKAGES:
        compileall.compile_dir(PROJECT / package, quiet=1)
    status = 0
    for name, campaign in zip(CAMPAIGNS, (_provisioning, _goal_states, _extensions, _crowd), strict=True):
        if asked.only in {None, name}:
            status |= campaign(asked)
    return status


def _provisioning(asked: argparse.Namespace) -> int:
    choice: Choice = everything if asked.sample is None else sample(asked.seed, asked.sample)
    if asked.gap is not None:
        choice = lambda gaps: [gap for gap in gaps if any(text in str(gap) for text in asked.gap)]  # noqa: E731 - one of three
    outcome = run(choice, lambda text: print(text, file=sys.stderr, flush=True))
    if asked.names:
        print(*(f"{gap.kind:8} {gap}" for gap in outcome.gaps), sep="\n")
    for wrong in outcome.wrong:
        print("a boot ended otherwise than an undisturbed one:", wrong, sep="\n")
    print(histogram(outcome))
    if outcome.missed:
        print("missed:", *outcome.missed, sep="\n  ")
    return 1 if outcome.missed or outcome.wrong else 0


def _goal_states(asked: argparse.Namespace) -> int:
    return _tell(asked, goal_states.run(asked.seed, asked.kills or goal_states.KILLS, asked.gap or ()))


def _extensions(asked: argparse.Namespace) -> int:
    return _tell(asked, extensions.run(asked.seed, asked.kills or 0, asked.gap or ()))


def _crowd(asked: argparse.Namespace) -> int:
    tally = crowd.run(asked.seed, asked.kills or crowd.KILLS)
    for wrong in tally.wrong:
        print("wrong:", wrong, sep="\n")
    print(crowd.told(tally))
    return 1 if tally.wrong else 0


def _tell(asked: argparse.Namespace, outcome: goal_states.Outcome) -> int:
    if asked.names:
        print(*(f"{gap.kind:8} {gap}" for gap in outcome.gaps), sep="\n")
    for wrong in outcome.wrong:
        print("wrong:", wrong, sep="\n")
    print(goal_states.told(outcome))
    if outcome.missed:
        print("missed:", *outcome.missed, sep="\n  ")
    return 1 if outcome.missed or outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
