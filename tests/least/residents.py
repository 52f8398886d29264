# SPDX-License-Identifier: Apache-2.0
"""Owns the experiments with supervisor and spawner: a whole boot for the one, a rig and some jobs for the other.

Runs in the test. A boot takes a second; the spawner's grants show in what its children can't do.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.least import boots
from tests.least.experiments import LONGEST_REASON, Finding, Say, failure, rig_on
from tests.least.grants import Grant
from tests.least.ground import machine
from tests.least.place import Place
from tests.least.scenario import Scenario
from tests.least.scenarios import all_scenarios
from tests.least.variants import RIG, Policy, Variants

BOOTS = {
    "supervisor": ("a first boot, and a goal state after it", boots.failure),
    "policy-compiler": ("a start with an override", boots.compiling_failure),
}
# By the spawner's grant whose children need it: the job that shows it, of that kind.
JOBS = ("account", "home-keys", "custom-data-here", "verifier", "parser", "redirect", "witness", "egress")


def find(policy: Policy, grants: Sequence[Grant], say: Say) -> list[Finding]:
    """A finding for each of `grants`, at most as many boots at a time as there are processors."""
    processors = sorted(os.sched_getaffinity(0))

    def one(numbered: tuple[int, Grant]) -> Finding:
        number, grant = numbered
        if grant.kind in BOOTS:
            found = _by_boot(policy, grant)
        else:
            found = _by_rig(policy, grant, processors[number % len(processors)])
        say(found)
        return found

    with ThreadPoolExecutor(len(processors)) as pool:
        return list(pool.map(one, enumerate(grants)))


def _by_boot(policy: Policy, grant: Grant) -> Finding:
    variants = Variants(policy)
    variants.replace(grant)
    name, failure_of = BOOTS[grant.kind]
    how = failure_of(variants)
    return Finding(grant, name if how else "", how[:LONGEST_REASON])


def _by_rig(policy: Policy, grant: Grant, processor: int) -> Finding:
    """The spawner's: with the supervisor of the rig, and a few jobs that ask all of it."""
    variants = Variants(policy)
    variants.replace(grant)
    with machine() as lab:
        try:
            with rig_on(lab, variants.place(lab, "least", RIG), processor) as rig:
                for scenario in _jobs():
                    how = failure(rig, Place(lab), scenario, scenario.kind)
                    if how:
                        return Finding(grant, f"{scenario.kind}: {scenario.name}", how)
        except (AssertionError, OSError) as error:
            return Finding(grant, "the service's start", " ".join(str(error).split())[:LONGEST_REASON])
    return Finding(grant, "", "")


def _jobs() -> list[Scenario]:
    """The first scenario of each of JOBS, and every one that is there for a capability."""
    found = [each for each in all_scenarios() if each.kind in JOBS]
    firsts = {each.kind: each for each in reversed(found)}
    return [*firsts.values(), *(each for each in found if "dac_override" in each.about)]
