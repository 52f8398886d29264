# SPDX-License-Identifier: Apache-2.0
"""Owns the experiments: one rig for all, a grant taken away for each, a kind's scenarios until one fails for it.

Runs in the test, or as `python -m tests.least`. A grant without which every scenario passes is one that nobody needs.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from tests.fabric.lab import Lab
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig
from tests.least.grants import Grant
from tests.least.ground import GROUNDS, machine
from tests.least.place import Place
from tests.least.scenario import Scenario, first_about
from tests.least.variants import RIG, Policy, Variants

LONGEST_REASON = 160
# A worker that can't even begin is not waited for as long as on a busy machine in its first boot.
PATIENCE = (Mutation("supervisor.fleet", "START_PATIENCE_S = 30.0", "START_PATIENCE_S = 4.0"),)
# Where threads race with the lock, one try is luck: how often all scenarios are tried.
RACES = {"thread-start": 12}


class Finding(NamedTuple):
    """What came of taking `grant` away: the scenario that failed and how, both empty when none did."""

    grant: Grant
    scenario: str
    how: str

    @property
    def needed(self) -> bool:
        return bool(self.scenario)


Ground = Callable[[], AbstractContextManager[Lab]]
Say = Callable[[Finding], None]


class Broken(Exception):
    """A scenario fails with nothing taken away: then nothing can be learnt from it."""


class Part(NamedTuple):
    """Grants that are tried in one lab, on one processor."""

    ground: Ground
    processor: int
    grants: list[Grant]


def find(policy: Policy, grants: Sequence[Grant], scenarios: Sequence[Scenario], say: Say) -> list[Finding]:
    """A finding for each of `grants`, in their order; on each processor a lab of its own."""
    parts = _parts(policy, grants)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        done = pool.map(lambda part: _find_on(policy, part, scenarios, say), parts)
        findings = {finding.grant: finding for some in done for finding in some}
    return [findings[grant] for grant in grants]


def _parts(policy: Policy, grants: Sequence[Grant]) -> list[Part]:
    """`grants`, kind by kind, in parts of about the same size; those that need another ground apart."""
    processors = sorted(os.sched_getaffinity(0))
    parts = [Part(machine, processor, []) for processor in processors]
    apart = {kind: Part(ground, processors[-1], []) for kind, ground in GROUNDS.items()}
    kinds = [policy.companions.get(grant.kind, grant.kind) for grant in grants]
    for kind in sorted(set(kinds), key=kinds.count, reverse=True):
        part = apart.get(kind) or min(parts, key=lambda part: len(part.grants))
        part.grants.extend(grant for grant, of in zip(grants, kinds, strict=True) if of == kind)
    return [part for part in (*parts, *apart.values()) if part.grants]


def _find_on(policy: Policy, part: Part, scenarios: Sequence[Scenario], say: Say) -> list[Finding]:
    variants = Variants(policy)
    subjects = {grant: variants.add_without(grant) for grant in part.grants}
    findings = []
    with part.ground() as lab, rig_on(lab, variants.place(lab, "least", RIG), part.processor) as rig:
        place = Place(lab)
        kinds = {policy.companions.get(grant.kind, grant.kind) for grant in part.grants}
        expect_undisturbed(rig, place, [each for each in scenarios if each.kind in kinds])
        for grant, subject in subjects.items():
            concerned = policy.companions.get(grant.kind, grant.kind)
            findings.append(_try(rig, place, grant, subject, [each for each in scenarios if each.kind == concerned]))
            say(findings[-1])
    return findings


@contextmanager
def rig_on(lab: Lab, policy: str, processor: int) -> Iterator[Rig]:
    """A rig whose processes share one processor, and leave it to one another late: a worker's threads then begin when
    it has locked itself, as they may on any busy machine."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        rig = Rig(lab, policy, PATIENCE).open()
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, before)
    try:
        yield rig
    finally:
        rig.close()


def expect_undisturbed(rig: Rig, place: Place, scenarios: Iterable[Scenario]) -> None:
    """Broken, unless all pass as long as nothing is taken away."""
    tried = [f"{each.kind}: {each.name}: {how}" for each in scenarios if (how := failure(rig, place, each, each.kind))]
    if tried:
        raise Broken("\n".join(tried))


def _try(rig: Rig, place: Place, grant: Grant, subject: str, scenarios: Sequence[Scenario]) -> Finding:
    for scenario in first_about(scenarios, grant.name) * RACES.get(grant.name, 1):
        how = failure(rig, place, scenario, subject)
        if how:
            return Finding(grant, scenario.name, how.replace(subject, grant.kind))
    return Finding(grant, "", "")


def failure(rig: Rig, place: Place, scenario: Scenario, kind: str) -> str:
    """How `scenario` fails with a worker of `kind`, in a line; empty when it does not."""
    try:
        scenario.run(rig, place, kind)
    except AssertionError as error:
        text = str(error).strip() or "not as it has to be"
        return " ".join(text.split())[:LONGEST_REASON]
    return ""


def line(finding: Finding) -> str:
    told = f"{finding.scenario}: {finding.how}" if finding.needed else "nobody needs it"
    return f"{finding.grant} | {told}"
