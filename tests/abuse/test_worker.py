# SPDX-License-Identifier: Apache-2.0
"""What a taken-over parser tries on the machine: every attempt denied, also if no filter of system calls were there."""

import pytest

from tests.abuse import controls
from tests.abuse.attempts import outcome
from tests.abuse.cases import CASES
from tests.abuse.ground import Ground

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


@pytest.mark.parametrize("name", CASES)
def test_it_is_denied(name: str, ground: Ground) -> None:
    ended = outcome(ground.rig(), name)
    if name == "takes_all_memory":
        assert ended.endswith("(last: was killed)")
    else:
        assert ended.startswith("denied") or BY_FILTER in ended


@pytest.mark.parametrize("name", sorted(set(CASES) - FILTER_ALONE))
def test_it_is_denied_without_the_filter_too(name: str, ground: Ground) -> None:
    """Every other control holds by itself."""
    ended = outcome(ground.rig((*controls.UNSEEN, *controls.SECCOMP)), name)
    assert ended.startswith("denied") or ended.endswith("(last: was killed)")
