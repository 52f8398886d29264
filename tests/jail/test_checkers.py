# SPDX-License-Identifier: Apache-2.0
"""Workers that are begun together have one verifier in common, which judges each by itself, and is gone soon after."""

import json
from collections.abc import Iterator

import pytest

from supervisor.layout import Layout
from tests.fabric.lab import Lab
from tests.fabric.waiting import until
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig, place_bait, place_policy, policy_sources

pytestmark = pytest.mark.root

LEAVE = "namespaces.leave(profile.namespaces.new)"
# Only parsers go without; what is lacking a verifier alone can see.
PARSERS_SHARE_IPC = Mutation(
    "supervisor.jail.confine",
    LEAVE,
    'namespaces.leave({*profile.namespaces.new} - ({"ipc"} if profile.kind == "parser" else set()))',
)
ONE_EACH = Mutation("supervisor.checkers", "MOST, KEPT_S = 8, 0.3", "MOST, KEPT_S = 1, 0.3")
# Long enough for a test to act in.
KEPT = Mutation("supervisor.checkers", "MOST, KEPT_S = 8, 0.3", "MOST, KEPT_S = 8, 5.0")
FIRST_ALONE = Mutation(
    "supervisor.checkers",
    "            await self._judge(worker, checker.verifier)\n",
    "            if before is None:\n                await self._judge(worker, checker.verifier)\n",
)
VERSIONS = "<Versions><Preferred><Version>2012-11-30</Version></Preferred></Versions>"
BEGUN = ("worker-start", "verifier")
TOGETHER = ("hostname", "account")


@pytest.fixture(scope="module")
def apart() -> Iterator[tuple[Lab, str]]:
    """A lab, and the policy there: for rigs of a test's own."""
    with Lab() as lab:
        place_bait(lab)
        yield lab, place_policy(lab, "plain", policy_sources())


def events(lab: Lab, since: int = 0) -> list[tuple[str, str, int]]:
    """What the audit log says of workers, oldest first: event, kind, process number."""
    log = lab.path(Layout().audit_log)
    entries = map(json.loads, log.read_text().splitlines() if log.exists() else ())
    told = [(entry["event"], entry.get("kind", ""), entry.get("pid", 0)) for entry in entries]
    return told[since:]


def begun_together(rig: Rig) -> list[int]:
    """The processes of one worker of each kind, once both wait for a job."""
    for kind in TOGETHER:
        rig.ask("prepare", kind=kind)
    return [
        int(until(f"{kind} waits", lambda kind=kind: rig.ask("waiting", kind=kind)["ready"])[0])  # type: ignore[misc]
        for kind in TOGETHER
    ]


def verifiers(told: list[tuple[str, str, int]]) -> int:
    return [(event, kind) for event, kind, _ in told].count(BEGUN)


def nobody(rig: Rig) -> None:
    until("nobody is left", lambda: rig.ask("status")["alive"] == 0)


def test_they_have_one_and_it_is_gone_before_long(lab: Lab, rig: Rig) -> None:
    before = len(events(lab))
    pids = begun_together(rig)
    rig.ask("drop")
    nobody(rig)
    told = events(lab, before)
    assert verifiers(told) == 1
    assert sorted(pid for event, _, pid in told if event == "worker-verified") == sorted(pids)


def test_each_has_its_own_where_one_judges_one_only(apart: tuple[Lab, str]) -> None:
    with Rig(*apart, [ONE_EACH]) as rig:
        before = len(events(apart[0]))
        begun_together(rig)
        rig.ask("drop")
        nobody(rig)
        assert verifiers(events(apart[0], before)) == len(TOGETHER)


def test_one_that_was_killed_judges_nobody_and_the_next_worker_has_another(apart: tuple[Lab, str]) -> None:
    with Rig(*apart, [KEPT]) as rig:
        before = len(events(apart[0]))
        begun_together(rig)
        (killed,) = (one for event, kind, one in events(apart[0], before) if (event, kind) == BEGUN)
        apart[0].kill(killed)
        until("its end", lambda: ("worker-exit", "verifier", killed) in events(apart[0], before))
        said = rig.ask("job", kind="parser", content=VERSIONS, bait=False)
        assert said.get("messages") == ["Versions"], said
        assert verifiers(events(apart[0], before)) == 2


def test_what_it_said_of_others_gives_no_work_to_one_that_lacks_something(apart: tuple[Lab, str]) -> None:
    with Rig(*apart, [PARSERS_SHARE_IPC, KEPT]) as rig:
        before = len(events(apart[0]))
        begun_together(rig)
        failed = rig.ask("job", kind="parser", content=VERSIONS, bait=False)
        assert failed["error"] == "WorkerViolation"
        assert "ipc namespace is not its own" in failed["text"]
        assert verifiers(events(apart[0], before)) == 1


def test_with_the_first_one_judged_alone_it_would_get_work(apart: tuple[Lab, str]) -> None:
    with Rig(*apart, [PARSERS_SHARE_IPC, KEPT, FIRST_ALONE]) as rig:
        begun_together(rig)
        said = rig.ask("job", kind="parser", content=VERSIONS, bait=False)
        assert said.get("messages") == ["Versions"], said
