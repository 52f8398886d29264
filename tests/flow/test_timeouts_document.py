# SPDX-License-Identifier: Apache-2.0
"""The document of time-outs says what the code does: each value beside the name by which it is found there."""

from pathlib import Path

import pytest

from policy.load import load
from supervisor import (
    artifacts,
    certificates,
    contact,
    fingerprints,
    fleet,
    jit_accounts,
    jit_times,
    main,
    medium,
    options,
    ready,
    storage,
)
from supervisor.egress import guard, probe
from supervisor.extensions import nameless
from supervisor.goal_state import on_hold, pacing
from supervisor.spawner import service
from supervisor.wire import host, plugin, secure_channel
from supervisor.wire.connection import Limits
from workers.committers import account_lock, account_processes, account_tools, tools
from workers.programs import openssl

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
    "secure channel: next look": (secure_channel.PERIOD_S, secure_channel.ABSENT_PERIOD_S),
    "secure channel: a look after": (secure_channel.SOON_S,),
    "role instance": (contact.ROLE_INSTANCE_PAUSE_S,),
    "attempts at telemetry": (host.TELEMETRY_CALLS_WITHIN_S,),
    "an archive of logs": (plugin.PluginPatience().log_limits.silence_s, plugin.PluginPatience().log_limits.answer_s),
    "an artifact, all": (artifacts.BUDGET_S,),
    "the artifacts profile": (on_hold.BUDGET_S,),
    "the first goal state": (pacing.HURRY_S,),
    "the way by the host": (artifacts.REMEMBERED_S,),
    "a transfer from": (storage.FETCH_S, storage.PATIENCE_S),
    "a transfer to": (storage.PUT_S,),
    "Ready, after that": (ready.AGAIN_S,),
    "Ready, before": (ready.SOON_S,),
    "host keys' fingerprint": (fingerprints.BEFORE_READY_S,),
    "the rule's committer": (DEADLINES["egress"],),
    "the rule's probe": (probe.PATIENCE_S,),
    "a changed rule": (guard.PACE_S,),
    "a rule that is not": (options.ENABLE_FIREWALL_PERIOD.default,),
    "whoever provisions in": (guard.GUESTS_LOOK_S,),
    "start of a worker": (fleet.START_PATIENCE_S,),
    "verification": (DEADLINES["verifier"],),
    "the plan": (DEADLINES["provisioning"],),
    "a committer": tuple(
        DEADLINES[kind] for kind in ("hostname", "account", "password", "sudoers", "sshd", "home-keys")
    ),
    "making host keys": (DEADLINES["host-keys"],),
    "the transport key": (DEADLINES["vault"],),
    "an envelope of": (certificates.ENVELOPE_S,),
    "a package's signature": (openssl.LONG_PATIENCE_S, DEADLINES["opener"]),
    "unpacking a package": (DEADLINES["unpacker"],),
    "laying a handler": (DEADLINES["handler-files"],),
    "the last writer": (nameless.PATIENCE_S,),
    "OpenSSL, once": (openssl.PATIENCE_S,),
    "a program of": (tools.PATIENCE_S,),
    "another's lock": (account_tools.PATIENCE_S, account_lock.PATIENCE_S),
    "systemd is told": (main.READY_AT_LATEST_S,),
    "certificates that": (options.CERTIFICATES_TIMEOUT.default,),
    "ending what runs": (account_processes.PATIENCE_S,),
    "a JIT account": (jit_accounts.LOOK_EVERY_S,),
    "an account over": (jit_times.SECOND_LOOK_S,),
    "making a JIT account": (jit_times.FIRST_PAUSE_S, jit_times.LONGEST_PAUSE_S),
    "stop: acts": (main.STOP_PATIENCE_S,),
    "stop: the supervisor": (service.STOP_PATIENCE_S,),
}


@pytest.mark.parametrize("row", VALUES)
def test_a_value_stands_where_it_is_explained(row: str) -> None:
    lines = [line for line in LINES if line.startswith(f"| {row}")]
    assert len(lines) == 1
    cell = lines[0].split(" | ")[1]
    assert [value for value in VALUES[row] if f"{value:g} s" not in cell] == []
