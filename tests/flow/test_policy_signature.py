# SPDX-License-Identifier: Apache-2.0
"""Where a signature is required an agent starts with exactly what was signed, by a key of the image, and not else."""

from collections.abc import Callable, Iterator

import pytest

from tests.fabric.override_files import PLACES, SIGNATURE, Key, OverrideFiles, start_mutant
from tests.fabric.scene import AGENT
from tests.fabric.vm import Vm, booted
from tests.fabric.waiting import until
from tests.jail.mutants import Mutation

pytestmark = pytest.mark.root

EXIT_CONFIG = 78
FILES = {
    "10-small.toml": b'[parser]\nwhy = "Our machines are smaller than most."\nlimits.memory_mib = 100\n',
    "20-few.toml": b'[vault]\nwhy = "One key at a time is enough for us."\nlifetime.instances = 1\n',
}
IMAGE, OTHER = Key(), Key()


@pytest.fixture(scope="module")
def machine() -> Iterator[Vm]:
    with booted(host=False) as vm:
        yield vm


@pytest.fixture
def files(machine: Vm) -> Iterator[OverrideFiles]:
    """Overrides as the image's key signed them; /usr has the key and the requirement."""
    made = OverrideFiles(machine.lab)
    made.put(FILES | {SIGNATURE: IMAGE.sign(FILES)})
    made.trust(PLACES.fixed, IMAGE)
    made.require(PLACES.fixed)
    yield made
    made.clear()


def sentence(vm: Vm) -> str:
    """Why the agent does not start; it has to end with the status for that, and nothing of it may be left."""
    before = len(vm.scene.log()) if vm.agents else 0
    vm.boot(None)
    assert vm.agent.wait(timeout=15) == EXIT_CONFIG, vm.scene.log()
    told = vm.scene.log()[before:].strip()
    assert "\n" not in told
    assert vm.left_over() == []
    return told


def overview_of_a_start(vm: Vm) -> str:
    """Where the policy of an agent that does start comes from."""
    vm.boot(None)
    vm.residents()
    policy = vm.ps().overview.policy
    vm.scene.stop_agent(vm.agent)
    assert policy.overrides == tuple(sorted(FILES))
    return policy.sentence


def test_what_was_signed_starts_and_is_shown_with_its_key(machine: Vm, files: OverrideFiles) -> None:
    assert "signed with the key sha256:" in overview_of_a_start(machine)
    assert "signed with the key sha256:" in machine.lab.output(str(AGENT), "policy", "verify")


def _write(name: str, content: bytes) -> Callable[[OverrideFiles, Vm], None]:
    return lambda files, vm: files.put({name: content})


def _rename(files: OverrideFiles, vm: Vm) -> None:
    vm.lab.path(f"{PLACES.overrides}/10-small.toml").rename(vm.lab.path(f"{PLACES.overrides}/11-small.toml"))


def _remove(*names: str) -> Callable[[OverrideFiles, Vm], None]:
    def act(files: OverrideFiles, vm: Vm) -> None:
        for name in names:
            vm.lab.path(f"{PLACES.overrides}/{name}").unlink()

    return act


def _key_in_etc_alone(files: OverrideFiles, vm: Vm) -> None:
    files.clear()
    files.put(FILES | {SIGNATURE: OTHER.sign(FILES)})
    files.require(PLACES.fixed)
    files.trust(PLACES.local, OTHER)


def _key_in_etc_beside_the_images(files: OverrideFiles, vm: Vm) -> None:
    files.put({SIGNATURE: OTHER.sign(FILES)})
    files.trust(PLACES.local, OTHER)


REFUSED: dict[str, tuple[Callable[[OverrideFiles, Vm], None], str]] = {
    "unsigned": (_remove(SIGNATURE), "is not there, and a signature is required by policy-signature-required in /usr"),
    "one byte": (_write("10-small.toml", FILES["10-small.toml"].replace(b"100", b"101")), "does not fit"),
    "a file added": (
        _write("30-more.toml", b'min_level = "full"\n'),
        "does not fit 10-small.toml, 20-few.toml, 30-more",
    ),
    "a file removed": (_remove("20-few.toml"), "does not fit 10-small.toml and"),
    "all removed": (_remove(*FILES, SIGNATURE), "a signature is required"),
    "a file renamed": (_rename, "does not fit 11-small.toml, 20-few.toml"),
    "a foreign key": (_write(SIGNATURE, OTHER.sign(FILES)), "another key was used"),
    "a key in /etc alone": (_key_in_etc_alone, "there is no key to check it with"),
    "a key in /etc beside the image's": (_key_in_etc_beside_the_images, "another key was used"),
    "no signature at all": (_write(SIGNATURE, b"signed, honestly\n"), "is no signature"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_stops_the_start(machine: Vm, files: OverrideFiles, case: str) -> None:
    change, expected = REFUSED[case]
    change(files, machine)
    assert expected in sentence(machine)


def test_key_and_requirement_from_the_kernels_command_line(machine: Vm, files: OverrideFiles) -> None:
    files.clear()
    files.boot_with(f"quiet {IMAGE.word} agent_supervisor.policy_signature=required")
    files.trust(PLACES.local, OTHER)
    files.put(FILES | {SIGNATURE: OTHER.sign(FILES)})
    assert "another key was used" in sentence(machine)
    files.put({SIGNATURE: IMAGE.sign(FILES)})
    assert "signed with the key" in overview_of_a_start(machine)


def test_etc_may_require_and_use_a_key_of_its_own_where_the_image_says_nothing(
    machine: Vm, files: OverrideFiles
) -> None:
    files.clear()
    files.put(FILES)
    files.require(PLACES.local)
    files.trust(PLACES.local, OTHER)
    assert "required by policy-signature-required in /etc" in sentence(machine)
    files.put({SIGNATURE: OTHER.sign(FILES)})
    assert "signed with the key" in overview_of_a_start(machine)


WRONG = "        except InvalidSignature:\n            "
UNCHECKED = Mutation("policy.signature", f"{WRONG}continue", f"{WRONG}return key")


def test_only_the_check_keeps_an_altered_policy_from_being_in_force(machine: Vm, files: OverrideFiles) -> None:
    files.put({"10-small.toml": FILES["10-small.toml"].replace(b"100", b"101")})
    agent = start_mutant(machine.lab, [UNCHECKED])
    until("an agent that answers", machine.ps_or_none)
    assert machine.ps().overview.policy.signer.startswith("sha256:")
    machine.scene.stop_agent(agent)
