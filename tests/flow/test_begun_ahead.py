# SPDX-License-Identifier: Apache-2.0
"""Committers are begun while the one before them works: none acts before its order, and none outlives a failure."""

import json
from typing import Any

import pytest

from supervisor.layout import Layout
from tests.fabric.vm import Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

READY_WITHIN_S = 20.0
# In the order of their turns; each but the first is begun before its turn.
COMMITTERS = ("hostname", "account", "password", "sudoers", "sshd", "home-keys", "root-lock")
USERADD = "/usr/sbin/useradd"

Entries = list[dict[str, Any]]


def entries(vm: Vm) -> Entries:
    """The audit log, oldest first."""
    return [json.loads(line) for line in vm.lab.path(Layout().audit_log).read_text().splitlines()]


def place(log: Entries, **what: str) -> list[int]:
    """Where the entries stand that say `what`."""
    return [number for number, entry in enumerate(log) if what.items() <= entry.items()]


def test_each_is_started_once_and_verified_and_acts_when_its_order_is_written_down() -> None:
    with booted() as vm:
        vm.boot(vm.wanted.medium())
        assert vm.wait_until_decided(READY_WITHIN_S) == "Ready"
        log = entries(vm)
        done = -1
        early = []
        for kind in COMMITTERS:
            (started,) = place(log, event="worker-start", kind=kind)
            (verified,) = place(log, event="worker-verified", kind=kind)
            (intended,) = place(log, event="commit", kind=kind, decision="intended")
            (answered,) = place(log, event="request", kind=kind)
            early += [kind] if started < done else []
            assert done < intended < answered, kind
            assert started < verified < answered, kind
            (done,) = place(log, event="commit", kind=kind, decision="done")
        # The step before it runs three programs.
        assert "password" in early
        assert vm.ps().overview.counters.restarts == 0


def test_who_waits_when_a_step_fails_is_ended_and_did_nothing() -> None:
    with booted() as vm:
        vm.lab.output("rm", USERADD)
        vm.boot(vm.wanted.medium())
        assert "useradd" in vm.wait_until_decided(READY_WITHIN_S)
        until("no worker is left", lambda: not vm.scene.workers())
        log = entries(vm)
        assert place(log, event="worker-verified", kind="password")
        assert [entry["detail"] for entry in log if entry.get("kind") == "password" and "exit" in entry["event"]] == [
            "was ended by the agent"
        ]
        for kind in COMMITTERS[2:]:
            assert not place(log, event="commit", kind=kind)
            assert not place(log, event="request", kind=kind)
        assert not place(log, event="violation")
        assert vm.ps().overview.counters.restarts == 0
