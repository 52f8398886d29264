# SPDX-License-Identifier: Apache-2.0
"""The document of time-outs says what the code does: each value beside the name by which it is found there."""

from pathlib import Path

import pytest

from policy.load import load
from supervisor import contact, fingerprints, fleet, main, medium, options, ready
from supervisor.spawner import service
from supervisor.wire.connection import Limits
from workers.committers import account_tools, root_lock, tools

LINES = (Path(__file__).resolve().parents[2] / "docs/timeouts.md").read_text(encoding="utf-8").splitlines()
LIMITS = Limits()
DEADLINES = {each.profile.kind: each.profile.lifetime.deadline_s for each in load().programs}
# By the start of the row, the values that stand in it.
VALUES: dict[str, tuple[float, ...]] = {
    "a readable medium": (options.PROVISIONING_MEDIA_TIMEOUT.default,),
    "next look at `/dev`": (medium.LOOK_AGAIN_S,),
    "next try at a medium": (medium.READ_AGAIN_S,),
    "one reading of it": (DEADLINES["parser"],),
    "connection": (LIMITS.connect_s,),
    "silence within an answer": (LIMITS.silence_s,),
    "whole answer": (LIMITS.answer_s,),
    "next round": (contact.ROUND_PAUSE_S,),
    "role instance": (contact.ROLE_INSTANCE_PAUSE_S,),
    "Ready, after that": (ready.AGAIN_S,),
    "Ready, before": (ready.SOON_S,),
    "host keys' fingerprint": (fingerprints.BEFORE_READY_S,),
    "start of a worker": (fleet.START_PATIENCE_S,),
    "verification": (DEADLINES["verifier"],),
    "the plan": (DEADLINES["provisioning"],),
    "a committer": tuple(
        DEADLINES[kind] for kind in ("hostname", "account", "password", "sudoers", "sshd", "home-keys")
    ),
    "making host keys": (DEADLINES["host-keys"],),
    "the transport key": (DEADLINES["vault"],),
    "a program of": (tools.Tools()._patience_s,),
    "another's lock": (account_tools.PATIENCE_S, root_lock.PATIENCE_S),
    "systemd is told": (main.READY_AT_LATEST_S,),
    "stop: acts": (main.STOP_PATIENCE_S,),
    "stop: the supervisor": (service.STOP_PATIENCE_S,),
}


@pytest.mark.parametrize("row", VALUES)
def test_a_value_stands_where_it_is_explained(row: str) -> None:
    lines = [line for line in LINES if line.startswith(f"| {row}")]
    assert len(lines) == 1
    cell = lines[0].split(" | ")[1]
    assert [value for value in VALUES[row] if f"{value:g} s" not in cell] == []
