# SPDX-License-Identifier: Apache-2.0
"""What keeps the storage worker from the WireServer, certificates honest and transfers whole: each taken away in turn.

The worker of these tests is forked, so that mutants reach it; it is the same otherwise.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ipc.messages import BlobFetched
from ipc.messages.egress import Rule
from policy.egress import nft
from tests.fabric.surroundings import ACCOUNT
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig
from tests.storage.account import BLOB, METADATA, WIRESERVER
from tests.storage.conftest import Ground, ask, open_rig
from tests.storage.test_storage_worker import failure, fetch

pytestmark = pytest.mark.root

FORKED = {"storage": ('start = "exec"', 'start = "fork"')}
RULE = Rule("nft-uid", "enforce", WIRESERVER, uid=61183)
BLIND = Mutation("workers.storage.destination", "if str(address) in {PLATFORM, wireserver}:", "if False:")


@contextmanager
def without(ground: Ground, name: str, *controls: Mutation) -> Iterator[Rig]:
    with open_rig(ground, name, controls, **FORKED) as rig:
        yield rig


def test_the_wireserver_is_out_of_reach_by_two_controls(ground: Ground) -> None:
    """By its own look at the address, and by the rule in front of the WireServer; without both it gets there."""
    wanted = fetch(f"http://{WIRESERVER}/whole", plain=True)
    with without(ground, "both-there") as rig:
        assert "is the WireServer" in failure(ask(rig, wanted)[0]).problem
    with without(ground, "blind", BLIND) as rig:
        ground.lab.run(["nft", *nft.LOAD], given=nft.ruleset(RULE).encode())
        try:
            problem = failure(ask(rig, wanted)[0]).problem
        finally:
            ground.lab.output("nft", "flush", "ruleset")
        assert "Connection refused" in problem or "timed out" in problem, problem
        assert ground.requests() == []
        assert ask(rig, wanted)[1] == [BLOB]


@pytest.mark.parametrize(
    ("name", "control", "url"),
    [
        (
            "any-authority",
            Mutation(
                "workers.storage.trust", "self.context = ssl.create_default_context(capath=folder)",
                "self.context = ssl._create_unverified_context(check_hostname=False)",
            ),
            f"https://{ACCOUNT}:444/whole",
        ),
        (
            "any-name",
            Mutation(
                "workers.storage.transfer",
                "server_hostname=where.host",
                "server_hostname=where.host, assert_hostname=False",
            ),
            "https://other.storage.test/whole",
        ),
        (
            "any-scheme",
            Mutation("workers.storage.destination", '(parts.scheme == "http" and not plain)', "False"),
            f"http://{ACCOUNT}/whole",
        ),
        (
            "any-link",
            Mutation("workers.storage.destination", "if address.is_link_local or", "if"),
            f"http://{METADATA}/whole",
        ),
        (
            "redirected",
            Mutation(
                "workers.storage.transfer", '"redirect": False, "retries": False', '"redirect": True, "retries": 3'
            ),
            f"https://{ACCOUNT}/moved",
        ),
    ],
)  # fmt: skip
def test_without_the_control_it_is_taken(ground: Ground, name: str, control: Mutation, url: str) -> None:
    """With it, test_what_is_not_the_blob_is_refused has each of these."""
    with without(ground, name, control) as rig:
        answer, contents = ask(rig, fetch(url, plain=name == "any-link"))
    assert isinstance(answer, BlobFetched), answer
    assert contents == [BLOB]
