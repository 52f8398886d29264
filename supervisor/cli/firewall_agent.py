# SPDX-License-Identifier: Apache-2.0
"""Owns what the running agent says of the rule, for the firewall's commands; runs in their process."""

import time

import msgspec

from supervisor.cli.client import NOT_RUNNING, ask, why_silent
from supervisor.egress.wanted import own_cgroup
from supervisor.status import Egress, Snapshot
from supervisor.verbs import PS, RENEW_RULE

PATIENCE_S = 15.0
LOOK_AGAIN_S = 0.05


class Agent(msgspec.Struct, frozen=True):
    """`rule` as it tells; `cgroup` is its supervisor's (ipc.messages.egress), empty if that can't be read."""

    rule: Egress
    cgroup: str


def running_agent(path: str) -> Agent | None:
    """The one that answers on the socket at `path`, None when none does. PermissionError when it may not be asked."""
    try:
        snapshot = msgspec.json.decode(ask(path, PS).data, type=Snapshot)
    except NOT_RUNNING:
        return None
    pid = next((row.pid for row in snapshot.processes if row.kind == "supervisor"), 0)
    return Agent(snapshot.overview.egress, own_cgroup(_read(f"/proc/{pid}/cgroup")))


def agent_if_it_answers(path: str) -> tuple[Agent | None, str]:
    """The same, and in words why none tells: it does not run, hangs, or may not be asked by this user."""
    try:
        agent = running_agent(path)
    except (OSError, ValueError) as error:
        return None, why_silent(error)
    return agent, "" if agent is not None else "it does not run"


def renewed(path: str, before: Agent) -> Agent | None:
    """Have the agent load the rule anew, and wait for it. None when it does not come to that in time."""
    ask(path, RENEW_RULE)
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        agent = running_agent(path)
        if agent is not None and agent.rule.since != before.rule.since:
            return agent
        time.sleep(LOOK_AGAIN_S)
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
