# SPDX-License-Identifier: Apache-2.0
"""Owns the account of locked system calls: granted, seen in a trace, and the written margin between the two.

As a command: `python -m tests.least.calls [KIND...]` traces the kinds' jobs and prints it.
"""

import argparse
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from policy.call_numbers import is_here
from policy.groups import stages
from tests.jail.rigged import Rig
from tests.least.experiments import PATIENCE, Ground, expect_undisturbed
from tests.least.ground import GROUNDS, machine
from tests.least.place import Place
from tests.least.scenario import Scenario
from tests.least.scenarios import all_scenarios
from tests.least.trace import Tracer
from tests.least.variants import RIG, Policy, Variants, read

MARGIN = Path(__file__).with_name("margin.toml")
Why = Annotated[str, msgspec.Meta(min_length=10)]


class Reserve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Calls that are granted though no trace on this machine shows them, to `kinds` (all, if none is named).

    `groups` are groups of calls with all that is in them."""

    why: Why
    calls: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def all_calls(self, policy: Policy) -> frozenset[str]:
        """Those of its groups, too."""
        return frozenset(self.calls).union(*(policy.groups[name].allowed for name in self.groups))


class Account(NamedTuple):
    """The calls of one kind's locked stage, as this machine has them."""

    kind: str
    granted: frozenset[str]
    seen: frozenset[str]
    margin: frozenset[str]

    @property
    def unexplained(self) -> frozenset[str]:
        """Neither seen nor in the margin."""
        return self.granted - self.seen - self.margin

    def __str__(self) -> str:
        text = f"{self.kind}: {len(self.granted)} granted, {len(self.seen & self.granted)} seen"
        return f"{text}, {len(self.granted - self.seen)} in the margin" + (
            f"; for no reason: {' '.join(sorted(self.unexplained))}" if self.unexplained else ""
        )


def reserves() -> tuple[Reserve, ...]:
    """The written margin."""
    tables = tomllib.loads(MARGIN.read_text())
    return tuple(msgspec.convert(table, Reserve) for table in tables["reserve"])


def accounts(policy: Policy, seen: Mapping[str, Iterable[str]]) -> Iterator[Account]:
    """For each of the kinds in `seen`."""
    kept = reserves()
    for kind in sorted(seen):
        _, locked = stages(policy.profiles[kind], policy.profiles.values(), policy.groups)
        granted = frozenset(name for name in locked.reachable if is_here(name))
        margins = (each.all_calls(policy) for each in kept if not each.kinds or kind in each.kinds)
        yield Account(kind, granted, frozenset(seen[kind]), frozenset[str]().union(*margins))


def trace(policy: Policy, scenarios: Sequence[Scenario]) -> dict[str, set[str]]:
    """Kind -> calls that its locked stage made in `scenarios`, its companion apart."""
    seen: dict[str, set[str]] = {}
    for ground in {GROUNDS.get(each.kind, machine): None for each in scenarios}:
        there = [each for each in scenarios if GROUNDS.get(each.kind, machine) is ground]
        seen |= _trace_on(ground, policy, there)
    return seen


def _trace_on(ground: Ground, policy: Policy, scenarios: Sequence[Scenario]) -> dict[str, set[str]]:
    with ground() as lab:
        tracer = Tracer(lab)
        folder = Variants(policy).place(lab, "traced", RIG)
        with Rig(lab, folder, PATIENCE, launcher=tracer.command, begun=tracer.attach) as rig:
            expect_undisturbed(rig, Place(lab), scenarios)
        tracer.stop()
    masters = {scenario.kind for scenario in scenarios}
    traced = masters | {policy.profiles[kind].programs for kind in masters} - {""}
    return {kind: names for (kind, stage), names in tracer.used.items() if stage == "locked" and kind in traced}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the account of the kinds named, or of all; the exit status is 1 when a call is granted for no reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.least.calls", description="What locked stages really call.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="whose jobs to trace (default: all)")
    chosen = set(parser.parse_args(arguments).kinds)
    policy = read()
    scenarios = [each for each in all_scenarios() if not chosen or each.kind in chosen]
    told = list(accounts(policy, trace(policy, scenarios)))
    for account in told:
        print(account)
        print(f"  seen: {' '.join(sorted(account.seen))}")
        print(f"  margin: {' '.join(sorted(account.granted - account.seen))}")
    return int(any(account.unexplained for account in told))


if __name__ == "__main__":
    sys.exit(main())
