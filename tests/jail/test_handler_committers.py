# SPDX-License-Identifier: Apache-2.0
"""Who has systemd start vendors' commands: replaced when it dies, kept for what follows of the same handler alone."""

import json
from collections.abc import Iterator

import pytest

from policy.load import load
from supervisor.layout import Layout
from tests.fabric.systemd_lab import SystemdLab
from tests.jail.mutants import Mutation
from tests.jail.test_handler_commands import BASE, FILES, HANDLER, OTHER, Machine, made

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

KINDS = [each.profile for each in load().programs]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with SystemdLab(FILES) as lab, made(lab) as machine:
        yield machine


def committers(machine: Machine) -> int:
    """How many have been started so far."""
    entries = map(json.loads, machine.lab.read(Layout().audit_log).splitlines())
    return sum(each["event"] == "worker-start" and each["kind"] == "handler-start" for each in entries)


DIES = Mutation(
    "workers.committers.handler_start",
    "        return standing(shown)\n    pidfd",
    "        return standing(shown)\n    os._exit(9)\n    pidfd",
)


def test_a_committer_that_dies_once_it_has_asked_systemd_is_replaced_and_nothing_runs_twice(machine: Machine) -> None:
    machine.rig.close()
    machine.rig = machine.fresh_rig(DIES)
    try:
        _, answer = machine.begin("echo x >>asked; exit 5")
        answered = machine.rig.answer(answer)
        assert answered["result"]["exit_code"] == 5, answered
        assert any("on the job, attempt 1 of" in line for line in answered["log"]), answered
        assert machine.told(f"{BASE}/asked") == "x\n"
    finally:
        machine.rig.close()
        machine.rig = machine.fresh_rig()


FOR_ANYBODY = (
    Mutation("supervisor.prepared", "key = worker.kind, errand.name", 'key = worker.kind, ""'),
    Mutation("supervisor.prepared", "(kind, errand.name), None)", '(kind, ""), None)'),
)


@pytest.mark.parametrize(("mutations", "expected"), [((), 3), (FOR_ANYBODY, 2)])
def test_one_committer_starts_what_follows_of_one_handler_and_of_no_other(
    machine: Machine, mutations: tuple[Mutation, ...], expected: int
) -> None:
    """Without regard to whose they are one would start them all."""
    machine.rig.close()
    machine.rig = machine.fresh_rig(*mutations)
    try:
        before = committers(machine)
        for verb, handler in (("install", HANDLER), ("install", OTHER), ("enable", HANDLER), ("enable", HANDLER)):
            assert machine.run("true", verb=verb, handler=handler)["code"] == 0
        # After an enable none is kept, nor is one for the handler that has none.
        assert committers(machine) - before == expected
    finally:
        machine.rig.close()
        machine.rig = machine.fresh_rig()


def test_after_as_many_as_policy_allows_another_one_follows(machine: Machine) -> None:
    before, most = committers(machine), next(each for each in KINDS if each.kind == "handler-start").lifetime.jobs
    for _ in range(most + 1):
        assert machine.run("true", verb="disable")["code"] == 0
    assert committers(machine) - before == 2
