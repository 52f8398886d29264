# SPDX-License-Identifier: Apache-2.0
"""Overrides in a whole agent: what they take away is gone, what they may not give stops the start, levels are kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from policy.load import load
from policy.running import running
from tests.fabric.lab import PROJECT, send_signal
from tests.fabric.override_files import PLACES, OverrideFiles, start_mutant
from tests.fabric.scene import kill_process
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until
from tests.jail.mutants import Mutation

pytestmark = pytest.mark.root

EXIT_CONFIG = 78
DOCUMENT = PROJECT / "docs" / "policy-overrides.md"
WHY = 'why = "Our machines need less than most."\n'
LOOSER = f"[parser]\n{WHY}limits.memory_mib = 4096\n".encode()
TIGHTER = f"[parser]\n{WHY}limits.memory_mib = 100\n".encode()
COMPILER_UID = 60790


@pytest.fixture(scope="module")
def machine() -> Iterator[Vm]:
    with booted() as vm:
        yield vm


@pytest.fixture
def files(machine: Vm) -> Iterator[OverrideFiles]:
    made = OverrideFiles(machine.lab)
    yield made
    made.clear()
    machine.lab.write("/etc/waagent.conf", QUICK)


def refusal(vm: Vm, *mutations: Mutation) -> str:
    """What the agent says when it does not start."""
    vm.agents.append(start_mutant(vm.lab, mutations)) if mutations else vm.boot(None)
    before = len(vm.scene.log())
    assert vm.agent.wait(timeout=20) == EXIT_CONFIG, vm.scene.log()
    assert vm.left_over() == []
    return vm.scene.log()[before:].strip()


def test_what_an_override_takes_away_is_gone_and_the_failure_is_told() -> None:
    override = f'[hostname]\n{WHY}remove.calls = ["sethostname"]\n'.encode()
    with booted(image={f"{PLACES.overrides}/10-no-names.toml": override}) as vm:
        vm.boot(vm.wanted.medium())
        assert "hostname.0: was killed by its system-call filter" in vm.wait_until_decided()
        assert vm.ps().overview.policy.overrides == ("10-no-names.toml",)
        assert "as shipped, with 10-no-names.toml" in vm.ps_command()
        assert "INFO policy" in vm.scene.log()
        assert vm.lab.output("hostname").strip() == "localhost"


def test_a_loosening_stops_the_start_unless_the_settings_allow_it(machine: Vm, files: OverrideFiles) -> None:
    files.put({"10-more.toml": LOOSER})
    assert "unless Policy.AllowLoosening=y; these loosen: parser: limits.memory_mib: 4096 is more" in refusal(machine)
    machine.lab.write("/etc/waagent.conf", QUICK + b"Policy.AllowLoosening=y\n")
    machine.boot(None)
    spawner, _ = machine.residents()
    in_force = {each.profile.kind: each.profile for each in running(spawner).programs}
    assert in_force["parser"].limits.memory_mib == 4096
    assert machine.ps().overview.policy.loosened == ("parser: limits.memory_mib: 4096 is more than 128",)
    assert "WARNING policy" in machine.scene.log()
    machine.scene.stop_agent(machine.agent)
    files.clear()
    machine.boot(None)
    assert running(machine.residents()[0]) == load()
    machine.scene.stop_agent(machine.agent)


def test_a_policy_is_in_force_until_the_agent_is_started_again(machine: Vm, files: OverrideFiles) -> None:
    files.put({"10-less.toml": TIGHTER})
    machine.boot(None)
    _, supervisor = machine.residents()
    before = machine.ps().overview.policy
    files.clear()
    kill_process(supervisor)
    until("its successor", lambda: (now := machine.ps_or_none()) and now.processes[1].restarts == 1)
    assert machine.ps().overview.policy == before
    machine.scene.stop_agent(machine.agent)
    machine.boot(None)
    machine.residents()
    assert machine.ps().overview.policy.overrides == ()
    machine.scene.stop_agent(machine.agent)


def test_a_part_of_a_path_that_is_a_link_to_elsewhere_is_a_loosening(machine: Vm, files: OverrideFiles) -> None:
    narrowed = (
        f'[hostname]\n{WHY}remove.paths = ["/etc"]\n[[hostname.grant.paths]]\npath = "/etc/part"\n{WHY}access = "rw"\n'
    )
    files.put({"10-part.toml": narrowed.encode()})
    machine.lab.output("ln", "-s", "/root", "/etc/part")
    assert "/etc/part is a link to /root" in refusal(machine)
    machine.lab.output("rm", "/etc/part")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("10-a.toml", b"[parser", "policy.d/10-a.toml: is not TOML"),
        (
            "10-a.toml",
            b"[nobody]\nwhy = 'There is no such kind.'\n",
            "[nobody]: there is no such kind; there are account",
        ),
        ("10-a.toml", b"#" * 70_000, "10-a.toml: is larger than 65536 bytes"),
        ("10-a.toml", f"[parser]\n{WHY}[parser.remove]\npaths = ['/channel']\n".encode(), "needs its channel"),
    ],
)
def test_an_unusable_override_stops_the_start(
    machine: Vm, files: OverrideFiles, name: str, content: bytes, told: str
) -> None:
    files.put({name: content})
    assert told in refusal(machine)


LACKING = Mutation(
    "supervisor.jail.confine", "    return frozenset(missing)\n", '    return frozenset(missing | {"mdwe"})\n'
)


def test_below_the_least_level_no_worker_changes_anything_and_everybody_is_told() -> None:
    with booted(config=QUICK + b"Policy.MinLevel=full\n") as vm:
        vm.scene.insert(vm.wanted.medium())
        vm.agents.append(start_mutant(vm.lab, [LACKING]))
        reason = "policy requires what this machine lacks: mdwe"
        assert reason in vm.wait_until_decided()
        overview = vm.ps().overview
        assert (overview.confinement, overview.missing, overview.policy.min_level) == ("reduced", ("mdwe",), "full")
        assert reason in overview.provisioning
        assert vm.applied() == []
        assert vm.agent.poll() is None
        send_signal(vm.agent, 15)
        vm.agent.wait(timeout=15)


def test_a_least_level_that_is_misspelt_stops_the_start(machine: Vm, files: OverrideFiles) -> None:
    machine.lab.write("/etc/waagent.conf", QUICK + b"Policy.MinLevel=ful\n")
    assert "Policy.MinLevel is 'ful', not one of basic, reduced, full" in refusal(machine)


# In place of its work the compiler waits for a second order, which never comes.
WAITS = Mutation(
    "supervisor.compiler.oneshot",
    "    material = msgspec",
    "    channel.receive()\n    material = msgspec",
)
SOON = Mutation("supervisor.spawner.compiler", "policies[KIND].profile.lifetime.deadline_s", "0.5")


def test_a_compiler_that_hangs_is_killed_and_the_start_stops(machine: Vm, files: OverrideFiles) -> None:
    files.put({"10-a.toml": TIGHTER})
    assert "did not finish within 0.5 s and was killed" in refusal(machine, WAITS, SOON)


def test_a_compiler_that_is_killed_stops_the_start_and_while_it_lives_it_has_nothing(
    machine: Vm, files: OverrideFiles
) -> None:
    files.put({"10-a.toml": TIGHTER})
    agent = start_mutant(machine.lab, [WAITS])
    pid = until("the compiler", lambda: next((p.pid for p in machine.lab.processes() if p.uid == COMPILER_UID), 0))
    folder = machine.lab.path(f"/proc/{pid}")
    status = until("its second filter", lambda: _locked(folder.joinpath("status").read_text()))
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert list(folder.joinpath("root").iterdir()) == []
    machine.lab.kill(pid)
    assert agent.wait(timeout=15) == EXIT_CONFIG
    assert "the sealed compiler of the policy: was killed and gave no answer" in machine.scene.log()
    assert machine.left_over() == []


def _locked(status: str) -> dict[str, str]:
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    # Those under which the tests themselves run come first.
    due = 2 + int(Path("/proc/self/status").read_text().partition("Seccomp_filters:\t")[2].split()[0])
    return fields if int(fields["Seccomp_filters"]) == due else {}


PROBES = ("read_shadow", "reach_network", "find_others")
UNCONFINED = (
    Mutation("supervisor.spawner.child", "    confine(confinement)\n    gc.enable()", "    gc.enable()"),
    Mutation("supervisor.spawner.child", "seccomp.load(locked_filter, all_threads=True)", "None"),
)


def _tries(probe: str) -> tuple[Mutation, Mutation]:
    """In place of its work the compiler tries something, and tells in its refusal what came of it."""
    module = "supervisor.compiler.oneshot"
    return (
        Mutation(
            module, "MAX_REFUSAL = 8000\n", f"MAX_REFUSAL = 8000\nfrom tests.fabric.sealed_probe import {probe}\n"
        ),
        Mutation(module, "        policy = rule(material)\n", f'        raise ConfigError("tried", {probe}())\n'),
    )


@pytest.mark.parametrize(
    ("probe", "succeeds"),
    [("read_shadow", "tried: read "), ("reach_network", "tried: connected"), ("find_others", "tried: sees ")],
)
def test_the_compiler_reaches_nothing_and_only_its_confinement_keeps_it_from_that(
    machine: Vm, files: OverrideFiles, probe: str, succeeds: str
) -> None:
    files.put({"10-a.toml": TIGHTER})
    confined = refusal(machine, *_tries(probe))
    assert "tried: refused" in confined or "was killed by its system-call filter" in confined
    # An agent that an earlier test had running leaves its rule behind, which refuses the compiler as anybody else.
    machine.lab.output("nft", "flush", "ruleset")
    assert succeeds in refusal(machine, *_tries(probe), *UNCONFINED)


def test_the_documents_example_provisions_a_vm() -> None:
    example = DOCUMENT.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    with booted() as vm:
        vm.lab.path(PLACES.overrides).mkdir(parents=True)
        vm.lab.write(f"{PLACES.overrides}/10-our-image.toml", example.encode())
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []
        assert vm.ps().overview.policy.overrides == ("10-our-image.toml",)
