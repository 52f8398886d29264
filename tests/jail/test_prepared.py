# SPDX-License-Identifier: Apache-2.0
"""Workers that were started before their job: verified like all others, and whatever becomes of one costs no job."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from supervisor.layout import Layout
from tests.abuse.controls import UNSEEN
from tests.fabric.lab import Lab
from tests.fabric.waiting import until
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig, place_bait, place_policy, policy_sources

pytestmark = pytest.mark.root

# Kept for a moment, in place of seconds.
SOON = Mutation("supervisor.prepared", "KEPT_S = 10.0", "KEPT_S = 0.3")
WITHOUT_LIMIT = Mutation("supervisor.jail.rlimits", "_lower(resource.RLIMIT_NOFILE, limits.open_files)", "pass")
# The verifier is one already.
FULL = Mutation("supervisor.spawner.children", "MAX_CHILDREN = 64", "MAX_CHILDREN = 1")
TALKATIVE = Mutation("workers.runtime", "channel.send(WorkerReady())", "[channel.send(WorkerReady()) for _ in 'ab']")
VERSIONS = "<Versions><Preferred><Version>2012-11-30</Version></Preferred></Versions>"
PATIENCE_S = 4.0


@pytest.fixture(scope="module")
def apart() -> Iterator[tuple[Lab, str]]:
    """Another lab, and the policy there: for rigs of a test's own."""
    with Lab() as lab:
        place_bait(lab)
        yield lab, place_policy(lab, "plain", policy_sources())


def prepared(rig: Rig, kind: str) -> int:
    """The process of a worker of `kind` that now waits for a job."""
    rig.ask("prepare", kind=kind)
    said: dict[str, Any] = {}

    def waits() -> bool:
        said.update(rig.ask("waiting", kind=kind))
        return bool(said["ready"])

    until("it waits", waits)
    (pid,) = said["ready"]
    return int(pid)


def done(rig: Rig) -> None:
    """A parser did its job."""
    said = rig.ask("job", kind="parser", content=VERSIONS, bait=False)
    assert said.get("messages") == ["Versions"], said


def told(rig: Rig, where: str, answer: dict[str, Any]) -> list[str]:
    """What the rig's supervisor says there, in `answer` or soon after it."""
    return until(where, lambda: answer.get(where) or rig.ask("status")[where])


def nobody(rig: Rig) -> None:
    until("nobody is left", lambda: rig.ask("status")["alive"] == 0)


def events(lab: Lab, kind: str) -> list[tuple[str, int]]:
    """What the audit log says of workers of `kind`, oldest first: events and process numbers."""
    lines = lab.path(Layout().audit_log).read_text().splitlines()
    entries = [entry for entry in map(json.loads, lines) if entry.get("kind") == kind]
    return [(entry["event"], entry.get("pid", 0)) for entry in entries]


def test_the_next_job_gets_it_and_the_one_after_that_another_one(lab: Lab, rig: Rig) -> None:
    pid = prepared(rig, "parser")
    rig.ask("prepare", kind="parser")
    before = len(events(lab, "parser"))
    done(rig)
    nobody(rig)
    # Verified before it waits, and nobody else was started.
    assert [event for event, one in events(lab, "parser")[:before] if one == pid] == ["worker-start", "worker-verified"]
    assert events(lab, "parser")[before:] == [("request", pid), ("worker-exit", pid)]
    rig.ask("job", kind="parser", content=VERSIONS, bait=False)
    nobody(rig)
    assert pid not in [one for _, one in events(lab, "parser")[before + 2 :]]


def test_a_job_that_comes_at_once_waits_for_it(lab: Lab, rig: Rig) -> None:
    before = len(events(lab, "parser"))
    rig.ask("prepare", kind="parser")
    done(rig)
    nobody(rig)
    assert [event for event, _ in events(lab, "parser")[before:]].count("worker-start") == 1


@pytest.mark.parametrize("kind", ["parser", "account"])
def test_one_that_is_killed_before_its_job_frees_its_place_and_costs_no_restart(lab: Lab, rig: Rig, kind: str) -> None:
    violations = rig.ask("status")["violations"]
    lab.kill(prepared(rig, kind))
    nobody(rig)
    # Of some kinds policy allows one only.
    prepared(rig, kind)
    rig.ask("drop")
    nobody(rig)
    said = rig.ask("waiting", kind=kind)
    assert (said["restarts"], said["violations"]) == (0, violations)


def test_a_job_gets_another_one_when_it_was_killed(lab: Lab, rig: Rig) -> None:
    lab.kill(prepared(rig, "parser"))
    nobody(rig)
    done(rig)
    assert rig.ask("waiting", kind="parser")["restarts"] == 0


def test_the_spawner_refuses_it_and_only_a_job_hears_of_that(apart: tuple[Lab, str]) -> None:
    with Rig(*apart, [FULL]) as rig:
        said = told(rig, "log", rig.ask("prepare", kind="parser"))
        assert [line.partition(" refused ")[0] for line in said] == ["verbose parser: not prepared: the spawner"]
        nobody(rig)
        answer = rig.ask("job", kind="parser", content=VERSIONS, bait=False)
        assert (answer["error"], answer["violations"]) == ("Unavailable", 0)
        assert rig.ask("waiting", kind="parser")["restarts"] == 0


def test_nobody_asks_for_it_and_it_is_ended(apart: tuple[Lab, str]) -> None:
    with Rig(*apart, [SOON]) as rig:
        prepared(rig, "account")
        nobody(rig)
        assert rig.ask("waiting", kind="account")["restarts"] == 0


def test_one_that_is_not_as_its_policy_says_gets_no_job(apart: tuple[Lab, str]) -> None:
    with Rig(*apart, [WITHOUT_LIMIT]) as rig:
        recorded = told(rig, "recorded", rig.ask("prepare", kind="parser"))
        assert "Max open files" in recorded[0]
        nobody(rig)
        failed = rig.ask("job", kind="parser", content=VERSIONS, bait=False)
        assert failed["error"] == "WorkerViolation"


def test_one_that_speaks_before_it_is_asked_is_told_even_if_nobody_needs_it(apart: tuple[Lab, str]) -> None:
    with Rig(*apart, [TALKATIVE]) as rig:
        prepared(rig, "parser")
        said = rig.ask("drop")
        assert said["violations"] == 1
        assert "WorkerReady" in said["recorded"][0]


def test_winding_up_waits_for_none_and_starts_none(apart: tuple[Lab, str]) -> None:
    with Rig(*apart) as rig:
        prepared(rig, "account")
        rig.ask("prepare", kind="password")
        assert rig.ask("wind_up", patience_s=PATIENCE_S)["seconds"] < PATIENCE_S / 2
        nobody(rig)
        rig.ask("prepare", kind="account")
        assert rig.ask("status")["alive"] == 0


def test_it_is_the_supervisors_own_judgement_and_the_verifiers_that_it_waits_for(apart: tuple[Lab, str]) -> None:
    """Without both a worker that lacks a limit would be handed out."""
    with Rig(*apart, [WITHOUT_LIMIT, *UNSEEN]) as rig:
        prepared(rig, "parser")
        done(rig)
