# SPDX-License-Identifier: Apache-2.0
"""Owns what the emulated host asks of a VM in one round, and whether the VM has come to it: journal, status, account.

Runs in the test.
"""

import json
import os
from dataclasses import dataclass
from typing import Any

from tests.fabric.scene import Scene
from tests.kills.end_state import journal_of

# What comes by the WireServer brings fresh certificates, settings sealed for one, one plugin that is broken, and an
# account that comes or goes, or with `plain` is as before; `stored`: that, and its status has to go by storage; `fast`
# comes by the HostGAPlugin.
ARRIVAL, DEPARTURE, STORED, FAST, PLAIN = "arrival", "departure", "stored", "fast", "plain"
WISHES = (ARRIVAL, DEPARTURE, FAST, STORED)
WITHOUT_ACCOUNTS = (FAST, STORED)
USER, PASSWORD = "visitor", "Jit-Passw0rd-7"
ACCOUNT_FILES = ("passwd", "shadow", "group", "gshadow")
HANDLER = "Kill.Events"
EVENTS = f"/var/log/azure/{HANDLER}/events"


@dataclass(frozen=True)
class Wished:
    """The newest goal state: its id, and the handler that no other one has."""

    id: str
    handler: str
    has_account: bool


def wish(scene: Scene, kind: str, number: int, *, has_account: bool) -> Wished:
    """Have the host publish a goal state of that kind; `has_account` is how it was before."""
    handler = f"Kill.Round{number}"
    sealed = [{"sequence": number, "public": {"round": number}, "protected": {"told": "nobody"}}]
    plugins = [{"name": handler, "settings": sealed}, {"name": "Kill.Second", "settings": [{"sequence": 1}]}]
    if kind == FAST:
        told = scene.steer(f"fast {json.dumps({'plugins': plugins, 'sequence': number})}")
        return Wished(f"etag_{told['etag']}", handler, has_account)
    if kind == STORED:
        scene.steer("fault status:status=500")
    plugins.append({"name": "Kill.Broken", "broken": "no-sequence", "settings": [{"sequence": 1}]})
    has_account = {ARRIVAL: True, DEPARTURE: False}.get(kind, has_account)
    users = [{"name": USER, "password": PASSWORD}] if has_account else []
    told = scene.publish("rotate", plugins=plugins, users=users, profile={"onHold": False})
    return Wished(f"incarnation_{told['incarnation']}", handler, has_account)


def leave_event(scene: Scene, number: int, text: str) -> None:
    """Have an extension leave a file with one event."""
    form = {
        "Version": "1.0.0",
        "Timestamp": "2026-01-02T03:04:05Z",
        "TaskName": "Install",
        "EventLevel": "Informational",
        "EventPid": "77",
        "EventTid": "77",
        "OperationId": "op",
        "Message": text,
    }
    folder = scene.lab.path(EVENTS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "next.tmp").write_text(json.dumps([form]))
    (folder / "next.tmp").rename(folder / f"{number}.json")


def lacking(scene: Scene, wished: Wished) -> str:
    """What is not yet as it was wished; empty when all of it is."""
    run = journal_of(scene).goal_state
    if run is None or (run.id, run.ended, run.code) != (wished.id, True, 0):
        return f"the journal has {run}"
    names = handlers(scene)
    if wished.handler not in names:
        return f"the host's last status names {names}"
    if problem := account_problem(scene, wished.has_account):
        return problem
    return f"at work: {list(scene.workers())}" if scene.workers() else ""


def handlers(scene: Scene) -> list[str]:
    """What the host's last status names."""
    status: Any = scene.steer("last")["status"]
    told: dict[str, Any] = status["aggregateStatus"] if status else {"handlerAggregateStatus": []}
    return [each["handlerName"] for each in told["handlerAggregateStatus"]]


def account_problem(scene: Scene, wanted: bool) -> str:
    """How the account is neither whole, if it is `wanted`, nor absent if not; empty when it is."""
    found = {name: _line(scene, name) for name in ACCOUNT_FILES}
    facts: dict[str, object] = {name: bool(line) for name, line in found.items()}
    facts["home"] = os.path.lexists(scene.lab.path(f"/home/{USER}{'/.bashrc' if wanted else ''}"))
    sudoers = scene.lab.path("/etc/sudoers.d/waagent")
    facts["sudoers"] = sudoers.exists() and f"{USER} ALL=" in sudoers.read_text()
    facts["password"] = f"{USER}:$6$" in found["shadow"]
    jit = journal_of(scene).jit
    stages = {name: account.stage for name, account in jit.items()}
    if all(value is wanted for value in facts.values()) and stages == ({USER: "made"} if wanted else {}):
        return ""
    return f"the account is to be {'whole' if wanted else 'absent'}: {facts}, journal {stages}"


def _line(scene: Scene, file: str) -> str:
    lines = scene.lab.path(f"/etc/{file}").read_text().splitlines()
    return next((line for line in lines if line.startswith(f"{USER}:")), "")
