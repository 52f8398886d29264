# SPDX-License-Identifier: Apache-2.0
"""A worker and its companion: begun and ended together, both checked, and only what policy names is ever run."""

import json
from typing import Any

import pytest

from tests.abuse.controls import LANDLOCK, SECCOMP, UNSEEN
from tests.fabric.lab import Lab
from tests.fabric.waiting import until
from tests.jail.hostile_committer import CASES
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig, place_policy, policy_sources

pytestmark = pytest.mark.root

BUSY = "/run/rig/busy"
CHILDREN, MAIN = "supervisor.spawner.children", "workers.programs.main"


@pytest.fixture(scope="module")
def policy(lab: Lab) -> str:
    return place_policy(lab, "plain", policy_sources())


@pytest.fixture(scope="module")
def hostile_policy(lab: Lab) -> str:
    return place_policy(lab, "hostile", policy_sources(sudoers=('"workers.committers.sudoers"', '"workers.hostile"')))


def left(lab: Lab) -> list[str]:
    """Groups of workers that exist."""
    folders = [top / "agent/workers" for top in lab.cgroups.values()]
    return sorted({entry.name for folder in folders if folder.is_dir() for entry in folder.iterdir() if entry.is_dir()})


def descriptors(rig: Rig) -> int:
    return len(list((rig.proc(rig.spawner) / "fd").iterdir()))


def at_rest(rig: Rig, lab: Lab) -> tuple[int, list[str]]:
    """The spawner's descriptors and the workers' groups while nobody lives but the two residents."""
    until("nobody at work", lambda: left(lab) == [])
    return descriptors(rig), []


@pytest.mark.parametrize("victim", ["pid", "companion"])
def test_whichever_ends_takes_the_other_with_it_and_nothing_is_left(victim: str, lab: Lab, policy: str) -> None:
    with Rig(lab, policy) as rig:
        before = at_rest(rig, lab)
        both = rig.ask("start", kind="account")
        until("both alone", lambda: left(lab) == ["account-programs.0", "account.0"])
        lab.kill(both[victim])
        rig.ended(both["pid"])
        rig.ended(both["companion"])
        until("nothing of them left", lambda: (descriptors(rig), left(lab)) == before)
        said = [line for line in rig.ask("status")["log"] if "its companion account-programs.0 was killed" in line]
        assert len(said) == (1 if victim == "companion" else 0)
        rig.ask("finish", serial=both["serial"])
        assert "pid" in rig.ask("start", kind="account")


def test_a_group_that_the_kernel_is_not_done_with_goes_later(lab: Lab, policy: str) -> None:
    busy = Mutation(
        "supervisor.jail.cgroup",
        "        os.rmdir(folder)",
        f'        if os.path.exists("{BUSY}"): raise OSError(errno.EBUSY, folder)\n        os.rmdir(folder)',
    )
    with Rig(lab, policy, (busy,)) as rig:
        before = at_rest(rig, lab)
        both = rig.ask("start", kind="account")
        lab.path(BUSY).touch()
        lab.kill(both["pid"])
        rig.ended(both["companion"])
        rig.ask("finish", serial=both["serial"])
        assert {"account-programs.0", "account.0"} <= set(left(lab))
        lab.path(BUSY).unlink()
        until("nothing of them left", lambda: (descriptors(rig), left(lab)) == before)


def test_a_worker_that_hears_of_it_first_ends_by_itself_and_its_job_is_begun_anew(lab: Lab, policy: str) -> None:
    """A companion that ends in the middle of a request, as if it was done: nobody ends the worker for that."""
    goes = Mutation("workers.programs.serving", "channel.send(answer(request, descriptors))", "return")
    request = {"MakeHostKeys": {"key_type": "ed25519", "staging": "/etc/ssh/.staging", "fresh": True}}
    with Rig(lab, policy, (goes,)) as rig:
        answer = rig.ask("job", kind="host-keys", content="", request=json.dumps(request), final="Committed")
        assert "host-keys died 4 times on the same job (last: ended with 0)" in answer["text"]
        until("nothing of them left", lambda: left(lab) == [])


def test_a_worker_that_can_not_be_forked_leaves_no_companion(lab: Lab, policy: str) -> None:
    fails = Mutation(
        CHILDREN,
        "return [self._begin(compiled, instance, side, log, ours.fileno()), companion]",
        'raise OSError(12, "no memory")',
    )
    with Rig(lab, policy, (fails,)) as rig:
        before = at_rest(rig, lab)
        answer = rig.ask("start", kind="account")
        assert (answer["error"], "no memory" in answer["text"]) == ("Unavailable", True)
        until("nothing of them left", lambda: (descriptors(rig), left(lab)) == before)
        assert "pid" in rig.ask("start", kind="parser")


CONFINE = "supervisor.jail.confine"
WRONG: dict[str, tuple[Mutation, str]] = {
    "capabilities": (
        Mutation(
            CONFINE,
            "capabilities.limit_to(profile.capability_names)",
            'capabilities.limit_to({"fowner"} if profile.kind == "account-programs" else profile.capability_names)',
        ),
        "account-programs: thread",
    ),
    "second filter": (
        Mutation("workers.programs.serving", "    lock()\n", ""),
        "account-programs: thread",
    ),
    "cgroup": (
        Mutation(
            CONFINE,
            "child.group.join(",
            '(child.group.join if child.compiled.profile.kind != "account-programs" else dict)(',
        ),
        "account-programs: not in a cgroup of its own",
    ),
    "none at all": (Mutation("supervisor.births", "worker.companion = event.companion", "pass"), "its companion"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_companion_that_is_not_as_its_policy_says_is_found(what: str, lab: Lab, policy: str) -> None:
    mutation, found = WRONG[what]
    with Rig(lab, policy, (mutation,)) as rig:
        answer = rig.ask("start", kind="account")
        assert (answer.get("error"), found in answer.get("text", "")) == ("WorkerViolation", True), answer
        until("both are ended", lambda: left(lab) == [])


def outcome(lab: Lab, policy: str, case: str, mutations: tuple[Mutation, ...] = ()) -> str:
    """What the taken-over committer says of its attempt, or else how it ended."""
    with Rig(lab, policy, mutations, modules={"workers.hostile": "tests.jail.hostile_committer"}) as rig:
        request = json.dumps({"CommitHostName": {"host_name": case}})
        answer: dict[str, Any] = rig.ask("job", kind="sudoers", content="", request=request, final="Committed")
        said = [line.partition(f"{case}: ")[2] for line in answer["log"] if f"{case}: " in line]
        return said[0] if said else f"{answer['text']}; {' | '.join(answer['log'])}"


SEALED = Mutation(MAIN, "    read_sealed(descriptors[0], MAX_INPUT_BYTES)\n", "")
NAMES = Mutation(MAIN, "if name not in self._names:", "if False:")
ROWS: dict[str, tuple[str, tuple[Mutation, ...]]] = {
    "a program of another kind": ("its companion sudoers-programs.0 ended with 76, refusing a request", (NAMES,)),
    "a shell by a path": ("policy names no program '../../bin/sh'", (NAMES,)),
    "an input that may change": ("refused: not sealed", (SEALED,)),
    "a program started here": ("was killed by its system-call filter", (*UNSEEN, *SECCOMP, *LANDLOCK)),
    "a child": ("was killed by its system-call filter", (*UNSEEN, *SECCOMP)),
}


def test_what_policy_names_is_run(lab: Lab, hostile_policy: str) -> None:
    assert outcome(lab, hostile_policy, "its own program") == "succeeded"


@pytest.mark.parametrize("case", ROWS)
def test_a_committer_that_is_taken_over_has_nothing_else_run(case: str, lab: Lab, hostile_policy: str) -> None:
    stopped_by, control = ROWS[case]
    assert stopped_by in outcome(lab, hostile_policy, case)
    if case == "a program started here":
        # It becomes that program, and says nothing any more.
        assert stopped_by not in outcome(lab, hostile_policy, case, control)
    else:
        assert outcome(lab, hostile_policy, case, control) == "succeeded"


def test_only_the_tenants_companion_runs_scripts(lab: Lab, hostile_policy: str) -> None:
    assert "RunScript with 1 descriptors is no request here" in outcome(lab, hostile_policy, "a script")
    assert set(CASES) == {*ROWS, "its own program", "a script"}
