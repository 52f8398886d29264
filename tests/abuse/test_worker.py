# SPDX-License-Identifier: Apache-2.0
"""What a taken-over parser tries on the machine: every attempt denied, also if no filter of system calls were there."""

from collections.abc import Iterator

import pytest

from tests.abuse import controls
from tests.abuse.attempts import does_honest_work, outcome
from tests.abuse.cases import CASES
from tests.abuse.conftest import MODULES, Ground
from tests.jail.rigged import Rig

pytestmark = pytest.mark.root

BY_FILTER = "was killed by its system-call filter"
# Without a filter the kernel gives these to anyone; nothing that the host has is within their reach.
FILTER_ALONE = {
    "netlink_socket",
    "vsock_socket",
    "inet_socket",
    "userfaultfd",
    "keyctl",
    "add_key",
    "memfd_secret",
    "personality",
    "io_uring",
    "alg_socket",
    "perf_event",
}


@pytest.fixture(scope="module")
def confined(ground: Ground) -> Iterator[Rig]:
    with Rig(ground.lab, ground.policy, modules=MODULES) as rig:
        yield rig


@pytest.fixture(scope="module")
def unfiltered(ground: Ground) -> Iterator[Rig]:
    """Every other control has to hold by itself."""
    with Rig(ground.lab, ground.policy, (*controls.UNSEEN, *controls.SECCOMP), modules=MODULES) as rig:
        yield rig


@pytest.mark.parametrize("name", CASES)
def test_it_is_denied(name: str, confined: Rig) -> None:
    ended = outcome(confined, name)
    if name == "takes_all_memory":
        assert ended.endswith("(last: was killed)")
    else:
        assert ended.startswith("denied") or BY_FILTER in ended


@pytest.mark.parametrize("name", sorted(set(CASES) - FILTER_ALONE))
def test_it_is_denied_without_the_filter_too(name: str, unfiltered: Rig) -> None:
    ended = outcome(unfiltered, name)
    assert ended.startswith("denied") or ended.endswith("(last: was killed)")


def test_work_goes_on_after_all_that(confined: Rig, unfiltered: Rig) -> None:
    assert does_honest_work(confined)
    assert does_honest_work(unfiltered)
