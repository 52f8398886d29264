# SPDX-License-Identifier: Apache-2.0
"""What a tenant's own program takes over from us: nothing; and each way to something opens when its control is gone."""

import json
import sys
from collections.abc import Iterator

import pytest

from tests.fabric.lab import PROJECT, Lab, PlacedFile
from tests.jail.mutants import Mutation

pytestmark = pytest.mark.root

HIDDEN = ("/var/lib/agent-supervisor", "/run/agent-supervisor")
LAUNCHER = "supervisor.jail.unconfined"
# Becomes the program by the launcher's own code, mutated as the first argument says.
START = (
    "import importlib, json, sys; from tests.jail import mutants; mutants.install(json.loads(sys.argv[1])); "
    f"sys.exit(importlib.import_module('{LAUNCHER}').main(sys.argv[2:]))"
)
# With a secret in the environment, a file of ours open, and in a folder of ours.
LIFE = 'exec 7</run/agent-supervisor/secret; cd /run/agent-supervisor; umask 077; SECRET=1 exec "$@"'
ATTACK = b"""#!/bin/sh
for each in /var/lib/agent-supervisor /run/agent-supervisor; do [ -z "$(ls -A $each)" ] || echo folder; done
[ -e /proc/$$/fd/7 ] && echo descriptor
[ -n "$SECRET" ] && echo environment
[ "$(pwd)" = / ] || echo working folder
[ "$(umask)" = 0022 ] || echo umask
[ "$(sh -c 'kill -PIPE $$; echo lives')" = lives ] && echo signals
mount -t tmpfs data /mnt
true
"""
CONTROLS = {
    "folder": Mutation(LAUNCHER, "        hide(hidden)\n", "        pass\n"),
    "descriptor": Mutation(
        LAUNCHER, "        syscalls.close_range(3, 0xFFFFFFFF)\n", "        os.set_inheritable(7, True)\n"
    ),
    "environment": Mutation(LAUNCHER, "ENVIRONMENT)\n", "dict(os.environ))\n"),
    "working folder": Mutation(LAUNCHER, '        os.chdir("/")\n', ""),
    "umask": Mutation(LAUNCHER, "        os.umask(0o022)\n", ""),
    "signals": Mutation(LAUNCHER, "            signal.signal(number, signal.SIG_DFL)\n", "            pass\n"),
}
SHARED_AGAIN = Mutation(LAUNCHER, "            syscalls.share_as(root, point)\n", "            pass\n")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    files = {f"{folder}/secret": b"ours\n" for folder in HIDDEN}
    with Lab({**files, "/root/attack": PlacedFile(ATTACK, 0o755)}) as lab:
        lab.output("mkdir", "-p", HIDDEN[1])
        lab.path(f"{HIDDEN[1]}/secret").write_bytes(b"ours\n")
        lab.output("mount", "--make-rshared", "/")
        yield lab


def attack(lab: Lab, *mutations: Mutation) -> list[str]:
    """What the attack came by; and "mount" when its mount is the machine's."""
    start = [sys.executable, "-c", START, json.dumps(mutations), *HIDDEN, "--", "/root/attack"]
    done = lab.run(["sh", "-c", LIFE, "sh", *start], env={"PYTHONPATH": str(PROJECT)})
    assert done.returncode == 0, done.stderr
    mounted = lab.run(["umount", "/mnt"]).returncode == 0
    return [*done.stdout.splitlines(), *(["mount"] if mounted else []), *done.stderr.splitlines()]


def test_it_takes_nothing_over_and_changes_the_machine(lab: Lab) -> None:
    assert attack(lab) == ["mount"]
    for folder in HIDDEN:
        assert lab.output("cat", f"{folder}/secret") == "ours\n"


@pytest.mark.parametrize("control", CONTROLS)
def test_without_a_control_it_takes_just_that_over(lab: Lab, control: str) -> None:
    assert set(attack(lab, CONTROLS[control])) == {control, "mount"}


def test_covered_as_systemd_does_it_its_mounts_would_be_its_own(lab: Lab) -> None:
    assert attack(lab, SHARED_AGAIN) == []


def test_where_it_can_not_be_had_the_folders_are_seen_and_that_is_said() -> None:
    with Lab({"/root/attack": PlacedFile(ATTACK, 0o755)}) as private:
        private.output("mkdir", "-p", HIDDEN[1])
        private.path(f"{HIDDEN[1]}/secret").write_bytes(b"ours\n")
        found = attack(private)
        assert found[:2] == ["folder", "mount"]
        assert "can see the agent's folders: " in found[2]
