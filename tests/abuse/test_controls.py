# SPDX-License-Identifier: Apache-2.0
"""The mutation rule: whoever takes one control away sees an attack succeed that was denied with it.

Controls overlap, so a row names what has to be gone beside the control for it to be the last one that stands. Fails
when a control stops nothing (any more), or when a test of it could not fail.
"""

import pytest

from tests.abuse import controls as c
from tests.abuse.attempts import attack, does_honest_work, outcome
from tests.abuse.ground import Ground
from tests.jail.mutants import Mutation

pytestmark = pytest.mark.root

Mutations = tuple[Mutation, ...]
BARE = (*c.SECCOMP, *c.LANDLOCK, *c.OWN_VIEW, *c.USER_NAMESPACE)
ROWS: dict[str, tuple[Mutations, Mutations, tuple[str, ...]]] = {
    "seccomp": ((), c.SECCOMP, ("inet_socket", "netlink_socket", "userfaultfd", "keyctl", "memfd_secret")),
    "landlock": (c.SECCOMP, c.LANDLOCK, ("listens_on_the_network",)),
    "mdwe": (c.SECCOMP, c.MDWE, ("maps_writable_code", "makes_memory_code")),
    "capabilities": (c.SECCOMP, c.CAPABILITIES, ("unshares_mount", "changes_root")),
    "network namespace": (c.SECCOMP, c.NETWORK, ("sends_to_wireserver",)),
    "uid": ((*c.SECCOMP, *c.USER_NAMESPACE), c.OWN_UID, ("makes_a_file_setuid",)),
    "own root": ((*c.SECCOMP, *c.LANDLOCK), c.OWN_VIEW, ("reads_passwd", "runs_a_shell")),
    "no new privileges": (BARE, c.NO_NEW_PRIVILEGES, ("runs_a_setuid_program",)),
    "cgroup": ((), c.CGROUP, ("takes_all_memory",)),
    "resource limits": ((), c.RESOURCE_LIMITS, ("takes_all_descriptors", "fills_memory_with_a_file")),
}


def outcomes(ground: Ground, mutations: Mutations, names: tuple[str, ...]) -> dict[str, bool]:
    """Whether each attempt succeeds."""
    rig = ground.rig((*c.UNSEEN, *mutations))
    assert does_honest_work(rig)
    return {name: outcome(rig, name).startswith("succeeded") for name in names}


@pytest.mark.parametrize("control", ROWS)
def test_an_attack_succeeds_without_the_control_alone(control: str, ground: Ground) -> None:
    gone_already, control_gone, names = ROWS[control]
    assert outcomes(ground, gone_already, names) == dict.fromkeys(names, False)
    assert outcomes(ground, (*gone_already, *control_gone), names) == dict.fromkeys(names, True)


def test_without_the_table_a_parser_proposes_passwords(ground: Ground) -> None:
    rig = ground.rig(c.TABLE)
    number = rig.tell("job", kind="parser", content="attack message_of_another", final="SetPassword")
    assert rig.answer(number).get("messages") == ["SetPassword"]


def test_without_the_descriptor_checks_more_come_than_were_announced(ground: Ground) -> None:
    rig = ground.rig((*c.DESCRIPTORS, *c.TABLE))
    answer = attack(rig, "announces_one_sends_two")
    assert (answer.get("messages"), answer.get("attached")) == (["Versions"], [2])
