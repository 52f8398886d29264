# SPDX-License-Identifier: Apache-2.0
"""Each control that confines a process has its line: taken away from a live worker it is red, and that line alone.

And what a process brings along from whoever started it, and what is put among a companion's programs.
"""

import json
import os
import struct
import subprocess

import pytest

from supervisor.audit import bpf, calls
from supervisor.audit.findings import Report
from tests.audit.auditing import audit, held, red
from tests.fabric.lab import PROJECT, send_signal
from tests.fabric.scene import AGENT, AGENT_LOG
from tests.fabric.vm import booted
from tests.jail.mutants import Mutation

pytestmark = pytest.mark.root

# With CAP_SYS_ADMIN filters can be loaded without no-new-privileges, so that even this can be left out.
KIND = "hostname"
IS_IT, ITS_NAMES = f'profile.kind == "{KIND}"', 'frozenset({"sys_admin"})'
ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
CONFINE, CAPABILITIES = "supervisor.jail.confine", "supervisor.jail.capabilities"


def left_out(call: str) -> Mutation:
    """A step of the confinement, for the one kind."""
    return Mutation(CONFINE, f"        {call}\n", f"        _ = {IS_IT} or {call}\n")


# The check that has to notice, and what is taken away.
WITHOUT: dict[str, tuple[Mutation, ...]] = {
    "limits": (left_out("rlimits.lower(profile.limits)"),),
    "namespaces": (
        Mutation(
            CONFINE,
            "namespaces.leave(profile.namespaces.new)",
            f'namespaces.leave({{*profile.namespaces.new}} - ({{"ipc"}} if {IS_IT} else set()))',
        ),
    ),
    "mounts": (
        Mutation(CONFINE, "sealed_tree.seal(profile.paths)", f"_ = {IS_IT} or sealed_tree.seal(profile.paths)"),
    ),
    "identity": (Mutation(CONFINE, "        os.umask(0o077)\n", f"        os.umask(0o022 if {IS_IT} else 0o077)\n"),),
    "capabilities": (
        Mutation(
            CAPABILITIES,
            'mask(("setpcap",))\n    for capability in range(64):\n',
            f'mask(("setpcap",))\n    for capability in range(0 if names == {ITS_NAMES} else 64):\n',
        ),
    ),
    "secure-bits": (
        Mutation(
            CAPABILITIES,
            "syscalls.prctl(_PR_SET_SECUREBITS, secure_bits(names))",
            f"_ = names == {ITS_NAMES} or syscalls.prctl(_PR_SET_SECUREBITS, secure_bits(names))",
        ),
    ),
    "lifeline": (
        Mutation(
            CONFINE,
            "lifeline.die_with(child.spawner)",
            f"(os.close if {IS_IT} else lifeline.die_with)(child.spawner)",
        ),
    ),
    "no-new-privileges": (left_out("capabilities.no_new_privileges()"),),
    "landlock": (
        Mutation(CONFINE, "if landlock.fits(profile):", f"if landlock.fits(profile) and not {IS_IT}:"),
    ),
    "memory": (
        Mutation(
            CONFINE,
            "        _if_there(child, mdwe.deny_writable_code)\n",
            f"        _ = {IS_IT} or _if_there(child, mdwe.deny_writable_code)\n",
        ),
    ),
    "dumpable": (
        Mutation(
            CONFINE,
            "        capabilities.forbid_dump()\n",
            f"        (capabilities.allow_dump if {IS_IT} else capabilities.forbid_dump)()\n",
        ),
    ),
    "seccomp": (
        Mutation(
            CONFINE,
            "seccomp.load(child.compiled.startup_filter)",
            f"seccomp.load({ALLOW_ALL!r} if {IS_IT} else child.compiled.startup_filter)",
        ),
    ),
}  # fmt: skip
ONLY_IN_DEPTH = {"secure-bits", "lifeline", "landlock", "memory", "dumpable", "seccomp"}


def reds_of(report: Report, name: str) -> set[str]:
    """The checks that are red of one subject."""
    return {check.name for subject in report.subjects if subject.name == name for check in subject.red}


def test_every_control_that_is_missing_is_noticed() -> None:
    with booted() as vm:
        vm.scene.insert(vm.wanted.medium())
        mutations = json.dumps([change for changes in WITHOUT.values() for change in changes])
        command = [str(AGENT.with_name("python")), "-m", "tests.fabric.mutant_agent", mutations]
        with vm.lab.path(AGENT_LOG).open("ab") as log:
            agent = vm.lab.popen(command, cgroup="agent", cwd=str(PROJECT), stdout=log, stderr=log)
        vm.agents.append(agent)
        with held(vm, KIND):
            shallow, deep = audit(vm.lab)[1], audit(vm.lab, "--deep")[1]
        # It was not started as ever: that is how the pieces were replaced.
        assert reds_of(deep, f"{KIND}.0") == {*WITHOUT, "program"}
        assert reds_of(shallow, f"{KIND}.0") == {*WITHOUT, "program"} - ONLY_IN_DEPTH
        assert reds_of(deep, "supervisor") == set()


@pytest.mark.skipif(calls.landlock_version() < 6, reason="this kernel's Landlock knows no scopes")
def test_landlock_is_missed_too_where_nothing_can_be_written() -> None:
    gone = Mutation(CONFINE, "if landlock.fits(profile):", 'if landlock.fits(profile) and profile.kind != "storage":')
    with booted() as vm:
        vm.scene.insert(vm.wanted.medium())
        command = [str(AGENT.with_name("python")), "-m", "tests.fabric.mutant_agent", json.dumps([gone])]
        with vm.lab.path(AGENT_LOG).open("ab") as log:
            vm.agents.append(vm.lab.popen(command, cgroup="agent", cwd=str(PROJECT), stdout=log, stderr=log))
        vm.scene.wait_until_ready()
        with held(vm, "storage"):
            assert reds_of(audit(vm.lab, "--deep")[1], "storage.0") == {"landlock"}


def test_what_the_spawner_was_born_with_is_seen() -> None:
    with booted() as vm:
        begin = f"exec 9<>/dev/tcp/168.63.129.16/80; exec '{AGENT}' run"
        with vm.lab.path(AGENT_LOG).open("ab") as log:
            environment = {"PYTHONMALLOC": "malloc"}
            vm.agents.append(
                vm.lab.popen(["bash", "-c", begin], cgroup="agent", stdout=log, stderr=log, env=environment)
            )
        vm.residents()
        found = red(audit(vm.lab)[1])
        assert set(found) == {"spawner: descriptors", "spawner: sockets", "spawner: environment"}
        assert "9 is tcp" in found["spawner: descriptors"][0]
        assert "CAP_SYS_ADMIN" in found["spawner: sockets"][0]
        assert "PYTHONMALLOC is set" in found["spawner: environment"][0]


def test_what_is_put_among_a_companions_programs_is_judged_as_one() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        with held(vm, "account"):
            place = "/sys/fs/cgroup/$one/agent/workers/account-programs.0/cgroup.procs"
            join = f"for one in pids memory cpu unified; do echo $$ >{place}; done"
            tools = "setpriv --no-new-privs --bounding-set=-all --inh-caps=-all"
            stay = f"{join}; exec {tools} sh -c 'echo there; exec sleep 60'"
            process = vm.lab.popen(["sh", "-c", stay], stdout=subprocess.PIPE)
            assert process.stdout is not None
            assert process.stdout.readline() == b"there\n"
            found = red(audit(vm.lab)[1])
            send_signal(process, 9)
            process.stdout.close()
        name = "account-programs.0/sleep"
        assert {line for line in found if line.startswith(name)} == set(found)
        assert {f"{name}: {one}" for one in ("capabilities", "seccomp", "namespaces", "mounts", "limits")} <= set(found)
        assert f"{name}: no-new-privileges" not in found


def test_a_filter_is_asked_as_the_kernel_would_ask_it() -> None:
    """By a program that is made for it, and by what the policy compiles."""
    number = calls.number("openat") or 0
    machine = os.uname().machine
    only_this = b"".join(
        struct.pack("=HBBI", *one)
        for one in ((0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x80000000))
    )
    assert bpf.allows(only_this, machine, number)
    assert not bpf.allows(only_this, machine, number + 1)
    with pytest.raises(ValueError, match="without an answer"):
        bpf.allows(struct.pack("=HBBI", 0x05, 0, 0, 0xFFFFFFFF), machine, number)
