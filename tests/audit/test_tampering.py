# SPDX-License-Identifier: Apache-2.0
"""Whatever is tampered with on a live agent, by other programs than ours, turns its own line red; undone, it is green.

All with one worker at work, the vault, which waits as long as it takes.
"""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from supervisor.audit.proc import threads
from supervisor.layout import Layout
from supervisor.wire.key_store import KEY_FILES
from tests.audit.auditing import CLONE_IS_ROOTS, audit, command, green, held, red
from tests.fabric.lab import PROJECT, send_signal
from tests.fabric.scene import supervisor_pid
from tests.fabric.vm import Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

STORE, RUN = "/var/lib/agent-supervisor", "/run/agent-supervisor"
VAULTS_UID = 60740


class Target:
    """A VM with its agent and one worker at work, the vault, `pid` as the host numbers it."""

    def __init__(self, vm: Vm, pid: int) -> None:
        self.vm = vm
        self.pid = pid

    def group(self, controller: str, name: str = "workers/vault.0") -> Path:
        """Of the agent, in the hierarchy that has `controller`."""
        return self.vm.lab.cgroups[controller] / self.vm.scene.agent_cgroup / name

    def inside(self, *words: str) -> None:
        """Run a program in the lab; it has to succeed."""
        self.vm.lab.output(*words)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        with held(vm, "vault") as pid:
            green(vm.lab, "--deep")
            yield Target(vm, pid)


Tampering = Callable[[Target], AbstractContextManager[None]]


@contextlib.contextmanager
def mode(target: Target, path: str, wrong: str, right: str) -> Iterator[None]:
    target.inside("chmod", wrong, path)
    try:
        yield
    finally:
        target.inside("chmod", right, path)


def mode_of(path: str, wrong: str, right: str) -> Tampering:
    return lambda target: mode(target, path, wrong, right)


@contextlib.contextmanager
def limit(target: Target) -> Iterator[None]:
    file = target.group("pids") / "pids.max"
    before = file.read_text()
    command("sh", "-c", f"echo 999 >{file}")
    try:
        yield
    finally:
        command("sh", "-c", f"echo {before.strip()} >{file}")


@contextlib.contextmanager
def moved_out(target: Target) -> Iterator[None]:
    """The whole worker leaves the group that limits how many processes it has."""
    command("sh", "-c", f"echo {target.pid} >{target.group('pids', '')}/cgroup.procs")
    try:
        yield
    finally:
        command("sh", "-c", f"echo {target.pid} >{target.group('pids')}/cgroup.procs")


@contextlib.contextmanager
def thread_moved_out(target: Target) -> Iterator[None]:
    """Of the supervisor, one thread of libzmq's, not the process."""
    supervisor = supervisor_pid(target.vm.agent)
    tid = max(threads(supervisor))
    assert tid != supervisor
    command("sh", "-c", f"echo {tid} >{target.group('pids', '')}/tasks")
    try:
        yield
    finally:
        command("sh", "-c", f"echo {tid} >{target.group('pids', 'supervisor')}/tasks")


@contextlib.contextmanager
def running(target: Target, *words: str) -> Iterator[None]:
    """A program in the lab for as long as it is needed; it says when it is there."""
    process = target.vm.lab.popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    try:
        yield
    finally:
        send_signal(process, signal.SIGKILL)
        process.wait(timeout=5)
        process.stdout.close()


STAY = "echo there; exec sleep 60"


def second_process(target: Target) -> AbstractContextManager[None]:
    """Beside the worker in its group, by its own means."""
    groups = [f"/sys/fs/cgroup/{name}/agent/workers/vault.0/cgroup.procs" for name in ("pids", "memory")]
    join = "; ".join(f"echo $$ >{group}" for group in groups)
    return running(target, "sh", "-c", f"{join}; {STAY}")


def same_uid(target: Target) -> AbstractContextManager[None]:
    """A process outside, with the worker's uid."""
    return running(
        target, "setpriv", f"--reuid={VAULTS_UID}", f"--regid={VAULTS_UID}", "--clear-groups", "sh", "-c", STAY
    )


def entered(target: Target) -> AbstractContextManager[None]:
    """A process with the worker's very uid that has entered its namespaces as well."""
    pid = _inside(target)
    enter = f"nsenter --target {pid} --uts --ipc --net --cgroup --setuid {VAULTS_UID} --setgid {VAULTS_UID}"
    return running(target, *enter.split(), "sh", "-c", STAY)


def stray_in_own_group(target: Target) -> AbstractContextManager[None]:
    """In the group of the spawner itself, without a capability."""
    join = "for one in pids memory; do echo $$ >/sys/fs/cgroup/$one/agent/cgroup.procs; done"
    return running(target, "sh", "-c", f"{join}; exec capsh --drop=all -- -c '{STAY}'")


@contextlib.contextmanager
def mounted(target: Target) -> Iterator[None]:
    """A folder that can be written, in the worker's own view."""
    namespace, folder = f"/proc/{target.pid}/ns/mnt", "/usr/lib/ssl"
    command("mount", "--no-mtab", "-N", namespace, "-t", "tmpfs", "more", folder)
    try:
        yield
    finally:
        command("umount", "--no-mtab", "-N", namespace, folder)


def in_its_tree(target: Target, *words: str) -> None:
    """Run a program of root's among the supervisor's own mounts."""
    supervisor = next(one.pid for one in target.vm.lab.processes() if "supervisor.main" in one.argv)
    target.inside("nsenter", "--target", str(supervisor), "--mount", "--", *words)


@contextlib.contextmanager
def remounted(target: Target) -> Iterator[None]:
    """A part of the system, in the supervisor's own tree, as it is everywhere else."""
    in_its_tree(target, "mount", "--no-mtab", "-o", "remount,bind,rw", "/etc")
    try:
        yield
    finally:
        in_its_tree(target, "mount", "--no-mtab", "-o", "remount,bind,ro", "/etc")


def mounted_at(place: str) -> Tampering:
    """Something more in the supervisor's tree, read-only as all there is."""

    @contextlib.contextmanager
    def tamper(target: Target) -> Iterator[None]:
        in_its_tree(target, "mount", "--no-mtab", "-t", "tmpfs", "-o", "ro", "more", place)
        try:
            yield
        finally:
            in_its_tree(target, "umount", "--no-mtab", place)

    return tamper


@contextlib.contextmanager
def policy_instead(target: Target, *change: str) -> Iterator[None]:
    """A copy of the policy, changed by a shell command in it, in the place of the installed one."""
    place = f"{PROJECT}/policy"
    target.inside(
        "sh", "-c", f"rm -rf /tmp/policy && cp -a '{place}' /tmp/policy && cd /tmp/policy && {' '.join(change)}"
    )
    target.inside("mount", "--no-mtab", "--bind", "/tmp/policy", place)
    try:
        yield
    finally:
        target.inside("umount", "--no-mtab", place)


def edited_source(target: Target) -> AbstractContextManager[None]:
    return policy_instead(target, "sed -i 's/^pids = 8/pids = 9/' profiles/vault.toml")


def replaced_policy(target: Target) -> AbstractContextManager[None]:
    """Compiled from other sources, but saying that it is of these."""
    python = f"cd '{PROJECT}' && .venv/bin/python -m policy.compile --folder"
    digests = 'old=$(grep -ao "[0-9a-f]\\{64\\}" compiled.bin | head -n 1)'
    return policy_instead(
        target,
        f"{digests}; cp -a /tmp/policy /tmp/other && sed -i 's/^pids = 8/pids = 9/' /tmp/other/profiles/vault.toml",
        f"&& (cd / && {python} /tmp/other --output /tmp/policy/compiled.bin)",
        '; new=$(grep -ao "[0-9a-f]\\{64\\}" compiled.bin | head -n 1); sed -i "s/$new/$old/" compiled.bin',
        "; rm -r /tmp/other",
    )


def writable_source(target: Target) -> AbstractContextManager[None]:
    return policy_instead(target, "chmod 0666 profile.py")


@contextlib.contextmanager
def replaced_program(target: Target) -> Iterator[None]:
    """Another file in the interpreter's place, with the same content even."""
    program = str((PROJECT / ".venv/bin/python").resolve())
    target.inside("cp", "--preserve=mode", program, "/tmp/python")
    target.inside("mount", "--no-mtab", "--bind", "/tmp/python", program)
    try:
        yield
    finally:
        target.inside("umount", "--no-mtab", program)


@contextlib.contextmanager
def override(target: Target) -> Iterator[None]:
    """A capability more, in a file that nobody allowed to loosen anything."""
    folder = "/etc/agent-supervisor/policy.d"
    text = (
        '[[vault.grant.capabilities]]\\nname = "sys_admin"\\nwhy = "Because somebody wants it very much."\\n\\n'
        '[vault]\\nwhy = "Because somebody wants it very much."\\n'
    )
    target.inside("sh", "-c", f"mkdir -p {folder}; printf '{text}' >{folder}/50-more.toml")
    try:
        yield
    finally:
        target.inside("rm", "-r", "/etc/agent-supervisor")


@contextlib.contextmanager
def others_file_in_store(target: Target) -> Iterator[None]:
    target.inside("install", "-o", "nobody", "-m", "0600", "/dev/null", f"{STORE}/notes")
    try:
        yield
    finally:
        target.inside("rm", f"{STORE}/notes")


@contextlib.contextmanager
def opened_key(target: Target) -> Iterator[None]:
    """That of the secure channel, for others to read; an empty one, on a host that has no such thing."""
    folder, key = Layout().credentials, f"{Layout().credentials}/{KEY_FILES[0]}"
    target.inside("sh", "-c", f"mkdir -p -m 0700 {folder} && install -m 0644 /dev/null {key}")
    try:
        yield
    finally:
        target.inside("rm", key)


# What is done, the line that turns red, and a word of what it says.
TAMPERINGS: dict[str, tuple[Tampering, str, str]] = {
    "the store is opened": (mode_of(STORE, "0755", "0700"), "machine: state", f"{STORE} has mode 0755"),
    "the journal is opened": (mode_of(f"{STORE}/journal", "0640", "0600"), "machine: state", "journal"),
    "the control socket is opened": (
        mode_of(f"{RUN}/control.sock", "0666", "0600"), "machine: state", "control.sock has mode 0666",
    ),
    "the secure channel's key is opened": (opened_key, "machine: state", f"{KEY_FILES[0]} has mode 0644 / 0600"),
    "the settings are opened": (mode_of("/etc/waagent.conf", "0666", "0644"), "machine: state", "waagent.conf"),
    "another's file is in the store": (others_file_in_store, "machine: state", f"{STORE}/notes is "),
    "a limit is raised": (limit, "vault.0: limits", "pids.max is 999 / 8 / policy/profiles/vault.toml"),
    "the worker leaves its group": (moved_out, "vault.0: cgroup", "/agent of pids"),
    "a thread leaves its group": (thread_moved_out, "supervisor: cgroup", "/agent of pids"),
    "a second process is in its group": (second_process, "machine: processes", "(sleep 60) is in vault.0"),
    "a stray is in the spawner's group": (stray_in_own_group, "machine: processes", "is in the agent's own group"),
    "a stranger has its uid": (same_uid, "machine: processes", f"has a worker's uid, {VAULTS_UID}"),
    "a stranger is in its namespaces": (entered, "machine: processes", f"has a worker's uid, {VAULTS_UID}"),
    "something is mounted in its view": (mounted, "vault.0: mounts", "/usr/lib/ssl is mounted (tmpfs)"),
    "the supervisor's tree is writable": (remounted, "supervisor: mounts", "/etc is writable (overlay) / read-only"),
    "more is in the supervisor's /run": (mounted_at(f"{RUN}/w"), "supervisor: mounts", f"{RUN}/w is mounted (tmpfs)"),
    "the supervisor has another disk": (mounted_at("/srv"), "supervisor: mounts", "/srv is mounted / none of its"),
    "a policy's source is edited": (edited_source, "machine: policy", "made from sources"),
    "the compiled policy is replaced": (replaced_policy, "machine: policy", "its part for vault is not what"),
    "a source can be written by all": (writable_source, "machine: installation", "profile.py belongs to uid 0, mode 0"),
    "the program is replaced": (replaced_program, "vault.0: program", "another file than the interpreter"),
    "an override wants a capability": (override, "machine: policy", "sys_admin"),
}  # fmt: skip
# What every process is held against changes with these.
SEEN_ELSEWHERE: dict[str, str] = {
    "the compiled policy is replaced": "vault.0: limits",
    "the program is replaced": ": program",
}


@pytest.mark.parametrize("case", TAMPERINGS)
def test_it_turns_its_line_red_and_undone_it_is_green(target: Target, case: str) -> None:
    tamper, line, word = TAMPERINGS[case]
    if "installation" in line and not CLONE_IS_ROOTS:
        pytest.skip("this clone is not root's alone to write: red from the start")
    with tamper(target):
        status, report = audit(target.vm.lab)
        found = red(report)
        assert status == 1
        assert [name for name in found if name != line and not name.endswith(SEEN_ELSEWHERE.get(case, "no"))] == []
        assert any(word in one for one in found[line]), found
    until("all green again", lambda: not red(audit(target.vm.lab)[1]))


def _inside(target: Target) -> int:
    """The worker as the lab numbers it."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{target.pid}/status").read_text().splitlines())
    return int(status["NSpid"].split()[1])
