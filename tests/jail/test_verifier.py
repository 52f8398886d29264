# SPDX-License-Identifier: Apache-2.0
"""No worker gets work whose confinement differs from its policy in anything that the kernel shows.

Each step of supervisor/jail/confine.py is left out once, in a mutant of it, for every worker but the verifier itself.
"""

import pytest

from tests.abuse.controls import OWN_VIEW
from tests.fabric.lab import Lab
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig, place_policy, policy_sources

pytestmark = pytest.mark.root

# What the kernel shows of no process, so that only behaviour can tell (tests/abuse/test_controls.py, tests/jail):
# - Landlock, writable code (MDWE): no file of /proc tells of them;
# - secure bits: prctl of the process itself alone; the locked ones have their effect in the capability sets;
# - parent-death signal: the same; test_live_workers.py kills the parent;
# - private mount propagation: where the host's mounts are private already there is no difference;
# - dumpable of a worker that is root: its /proc folder is root's either way;
# - descriptors: /proc/PID/fd is closed to other uids, whatever they may trace (test_live_workers.py looks as root);
# - which filters: PTRACE_SECCOMP_GET_FILTER needs ptrace(2), which the verifier's own filter keeps from it.
CONFINE, CHILD = "supervisor.jail.confine", "supervisor.spawner.child"


def without(step: str, instead: str) -> Mutation:
    """The mutant in which only the verifier makes `step`, all others do something else `instead`."""
    return Mutation(CONFINE, step, f'{step} if child.compiled.profile.kind == "verifier" else {instead}')


def less(namespace: str) -> Mutation:
    """One namespace is not left."""
    new = "profile.namespaces.new"
    return Mutation(
        CONFINE,
        f"namespaces.leave({new})",
        f'namespaces.leave({new} if profile.kind == "verifier" else {{*{new}}} - {{"{namespace}"}})',
    )


NO_VIEW = Mutation(CONFINE, 'if profile.view == "own":', 'if profile.view == "own" and profile.kind == "verifier":')
STEPS: dict[str, tuple[str, Mutation, str]] = {
    "cgroup": (
        "parser",
        Mutation(
            CONFINE, "child.group.join(", '(child.group.join if child.compiled.profile.kind == "verifier" else dict)('
        ),
        "not in a cgroup of its own",
    ),
    "uts namespace": ("parser", less("uts"), "uts namespace is not its own"),
    "ipc namespace": ("account", less("ipc"), "ipc namespace is not its own"),
    "net namespace": ("account", less("net"), "net namespace is not its own"),
    "cgroup namespace": ("parser", less("cgroup"), "cgroup namespace is not its own"),
    "pid namespace": (
        "parser",
        Mutation(
            "supervisor.spawner.process",
            'new_pid_namespace = "pid" in birth.compiled.profile.namespaces.new',
            "new_pid_namespace = False",
        ),
        "pid namespace is not its own",
    ),
    "one namespace too many": (
        "hostname",
        Mutation(
            CONFINE, "namespaces.leave(profile.namespaces.new)", 'namespaces.leave({*profile.namespaces.new, "uts"})'
        ),
        "uts namespace is its own",
    ),
    "a path too many": (
        "parser",
        Mutation(
            CONFINE,
            "mounts.pivot_into_view(profile.paths,",
            'mounts.pivot_into_view((*profile.paths, *[type(profile.paths[0])("/etc", "ro", "x" * 10)]),',
        ),
        "mount /etc is not in the policy",
    ),
    "sealed tree": (
        "account",
        Mutation(CONFINE, "sealed_tree.seal(profile.paths)", "pass"),
        "mount / is writable",
    ),
    "empty run": (
        "account",
        Mutation("supervisor.jail.sealed_tree", "        _hide(folder, [", "        dict.fromkeys(["),
        "its /run is the host's",
    ),
    "covers": ("custom-data-here", Mutation(CONFINE, "mounts.cover(profile.hidden)", "pass"), "is not covered"),
    "umask": ("parser", without("os.umask(0o077)", "os.umask(0o022)"), "Umask is '0022'"),
    "resource limits": ("parser", without("rlimits.lower(profile.limits)", "None"), "Max "),
    "groups": (
        "account",
        Mutation("supervisor.jail.identity", "os.setgroups([])", "os.setgroups([4])"),
        "",
    ),
    "identity": (
        "provisioning",
        without(
            "identity.take(child.uid, child.uid, profile.capability_names)",
            "identity.take(child.uid + 7, child.uid, frozenset())",
        ),
        "",
    ),
    "capabilities": (
        "account",
        without(
            "capabilities.limit_to(profile.capability_names)",
            'capabilities.limit_to(profile.capability_names - {"fowner"})',
        ),
        "CapEff is",
    ),
    "all capabilities": (
        "parser",
        without("capabilities.limit_to(profile.capability_names)", "None"),
        "CapBnd is",
    ),
    "no new privileges": ("account", without("capabilities.no_new_privileges()", "None"), ""),
    "dumpable": ("parser", without("capabilities.forbid_dump()", "capabilities.allow_dump()"), "dumpable"),
    "first filter": (
        "parser",
        without("seccomp.load(child.compiled.startup_filter)", "None"),
        "Seccomp_filters is '2'",
    ),
    "second filter": (
        "parser",
        Mutation(
            CHILD,
            "work(main, _channel(profile.transport), birth.compiled.locked_filter)",
            'work(main, _channel(profile.transport), birth.compiled.locked_filter if birth.uid < 60800 else b"")',
        ),
        "",
    ),
    "second filter on all threads": (
        "parser",
        Mutation(CHILD, "all_threads=True", "all_threads=False"),
        "thread",
    ),
}


@pytest.fixture(scope="module")
def policy(lab: Lab) -> str:
    return place_policy(lab, "plain", policy_sources())


@pytest.mark.parametrize("step", STEPS)
def test_a_step_left_out_is_found_and_no_work_is_given(step: str, lab: Lab, policy: str) -> None:
    kind, mutation, found = STEPS[step]
    refused(lab, policy, (mutation,), kind, found)


@pytest.mark.parametrize(
    ("more", "found"),
    [((), "its root is the host's"), ((less("mount"),), "mount namespace is not its own")],
    ids=["view", "mount namespace"],
)
def test_a_view_or_mount_namespace_left_out_is_found(
    more: tuple[Mutation, ...], found: str, lab: Lab, policy: str
) -> None:
    refused(lab, policy, (NO_VIEW, *OWN_VIEW[1:], *more), "parser", found)


def test_a_worker_that_is_moved_out_of_its_cgroup_afterwards_is_found(lab: Lab, policy: str) -> None:
    with Rig(lab, policy) as rig:
        worker = rig.ask("start", kind="parser")
        assert "error" not in rig.ask("verify", serial=worker["serial"])
        for top in lab.cgroups.values():
            folder = top / "agent/workers" / worker["name"]
            if (folder / "memory.limit_in_bytes").exists() or (folder / "memory.max").exists():
                for pid in (folder / "cgroup.procs").read_text().split():
                    (folder.parent.parent / "cgroup.procs").write_text(pid)
        answer = rig.ask("verify", serial=worker["serial"])
        assert (answer["error"], "cgroup of its own for memory" in answer["text"]) == ("WorkerViolation", True)


def test_a_verdict_is_never_about_another_process(lab: Lab, policy: str) -> None:
    """The pid in the request is the parser's, the pidfd beside it the vault's."""
    with Rig(lab, policy) as rig:
        parser, vault = (rig.ask("start", kind=kind)["serial"] for kind in ("parser", "vault"))
        answer = rig.ask("verify", serial=parser, by_pidfd_of=vault)
        assert answer["error"] == "WorkerDied"


def refused(lab: Lab, policy: str, mutations: tuple[Mutation, ...], kind: str, found: str) -> None:
    with Rig(lab, policy, mutations) as rig:
        answer = rig.ask("start", kind=kind)
        assert answer.get("error") in {"WorkerViolation", "WorkerDied"}
        assert found in answer["text"]
