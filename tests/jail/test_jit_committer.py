# SPDX-License-Identifier: Apache-2.0
"""What keeps the committer that ends accounts from ending anybody's: with each check taken away, it does just that."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fabric.lab import Lab, PlacedFile
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig, place_bait, place_policy, policy_sources

pytestmark = pytest.mark.root

MODULE = "workers.committers.jit_account"
LINES = {
    "alice": "alice:x:1200:100:Alice:/home/alice:/bin/bash",
    "service": "service:x:300:100:JIT_Account:/home/service:/bin/bash",
    "twin": "twin:x:1300:100:JIT_Account:/home/twin:/bin/bash\nother:x:1300:100::/home/other:/bin/bash",
}
# Whom it would end, the check that saves that one, what is in its place, and how the refusal begins.
CHECKS = {
    "alice": ("not _is_jit(fields, request.uid)", "False", "alice is an ordinary account"),
    "service": ("uid < max(request.uid_min, 1) or uid in NOBODIES", "False", "account service has uid 300"),
    "twin": ("others != [name]", "False", "accounts twin, other have the same uid"),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    passwd = Path("/etc/passwd").read_text() + "\n".join(LINES.values()) + "\n"
    with Lab({"/etc/passwd": PlacedFile(passwd.encode())}) as lab:
        place_bait(lab)
        yield lab


def end(rig: Rig, name: str) -> dict[str, Any]:
    order = {"RemoveJitAccount": {"user_name": name, "home_dir": "/home", "uid_min": 1000}}
    return rig.ask("job", kind="jit-account", content="", request=json.dumps(order), final="Committed", bait=False)


def test_each_check_saves_somebody_and_nobody_else_does(lab: Lab) -> None:
    policy = place_policy(lab, "plain", policy_sources())
    with Rig(lab, policy, phase="steady") as rig:
        for name, (_, _, words) in CHECKS.items():
            answer = end(rig, name)
            assert (answer["messages"], answer["problem"][: len(words)]) == (["CommitFailed"], words)
    mutations = [Mutation(MODULE, check, instead) for check, instead, _ in CHECKS.values()]
    with Rig(lab, policy, mutations, phase="steady") as rig:
        for name in CHECKS:
            assert end(rig, name)["messages"] == ["Committed"]
    left = [line.partition(":")[0] for line in lab.read("/etc/passwd").decode().splitlines()]
    assert not {"alice", "service", "twin"} & set(left)
