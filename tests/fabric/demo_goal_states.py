# SPDX-License-Identifier: Apache-2.0
"""Owns the demo's part about goal states: published, rotated, by FastTrack, withdrawn; accounts that come and go.

Runs in the demo, outside the lab. What it tells is what the host saw: requests, and the status that it was told.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.clock import SystemClock
from tests.fabric.fault_table import CERTIFICATES, CONFIG, PERIOD_S
from tests.fabric.lab import Lab
from tests.fabric.page import Page
from tests.fabric.scene import AGENT, Scene, Wanted, image_files
from tests.fabric.surroundings import Surroundings
from tests.fabric.waiting import WaitedInVain, until

WITHIN_S = 15.0
SETTINGS = [{"sequence": 1, "public": {"said": "hello"}, "protected": {"secret": "told nobody"}}]
HELPER = {"name": "helper", "password": "Correct-Horse-8-Battery"}
# Route -> what the timeline calls it. Polls that bring nothing are left out.
ROUTES = {
    "extensionsconfig": "ExtensionsConfig",
    "hostingenvironment": "HostingEnvironmentConfig",
    "sharedconfig": "SharedConfig",
    "certificates": "Certificates",
    "remoteaccess": "RemoteAccess",
    "vmsettings": "vmSettings",
    "status": "status",
}
Told = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """What the platform does, and how one sees that the VM has followed: `told` is the last status that the host took,
    `acted` what publishing has answered."""

    what: str
    act: Callable[[Scene], Told]
    is_done: Callable[[Scene, Told, Told], bool]


def _outcome(told: Told) -> tuple[str, str, int]:
    """Of which goal state the status is, how it ended, with which code."""
    found = told["aggregateStatus"].get("vmArtifactsAggregateStatus", {}).get("goalStateAggregateStatus", {})
    return str(found.get("inSvdSeqNo", "")), found.get("status", ""), found.get("code", 0)


def _handlers(told: Told) -> list[str]:
    return [handler["handlerName"] for handler in told["aggregateStatus"]["handlerAggregateStatus"]]


def _is_carried_out(told: Told, acted: Told, code: int = 0) -> bool:
    return _outcome(told) == (str(acted["incarnation"]), "Failed" if code else "Success", code)


def _has_certificates(scene: Scene, acted: Told) -> bool:
    files = [f"{CERTIFICATES}/{thumbprint}.crt" for thumbprint in acted["thumbprints"]]
    return all(scene.lab.path(file).exists() for file in files)


def _has_helper(scene: Scene) -> bool:
    return b"\nhelper:" in scene.lab.path("/etc/passwd").read_bytes()


def _plugin(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "settings": SETTINGS, **more}


STEPS = (
    Step(
        "published: two extensions, the second one's entry broken",
        lambda scene: scene.publish(
            "certificates=rsa,ec", plugins=[_plugin("Demo.Good"), _plugin("Demo.Broken", broken="no-sequence")]
        ),
        lambda scene, told, acted: (
            _is_carried_out(told, acted)
            and _handlers(told) == ["Demo.Good", "Demo.Broken"]
            and _has_certificates(scene, acted)
        ),
    ),
    Step(
        "rotated: the tenant's certificates are others now",
        lambda scene: scene.publish("rotate", plugins=[_plugin("Demo.Good")]),
        lambda scene, told, acted: _is_carried_out(told, acted) and _has_certificates(scene, acted),
    ),
    Step(
        "FastTrack: vmSettings bring a newer one",
        lambda scene: scene.steer('fast {"sequence": 4711, "plugins": [{"name": "Demo.Fast"}]}'),
        lambda _scene, told, _acted: _outcome(told)[0] == "4711" and _handlers(told) == ["Demo.Fast"],
    ),
    Step(
        "withdrawn: the WireServer's is the newest again, without extensions",
        lambda scene: [scene.steer("fast"), scene.publish(plugins=[])][1],
        lambda _scene, told, acted: _is_carried_out(told, acted) and not _handlers(told),
    ),
    Step(
        "an account for an hour's help",
        lambda scene: scene.publish(users=[HELPER]),
        lambda scene, told, acted: _is_carried_out(told, acted) and _has_helper(scene),
    ),
    Step(
        "the account is withdrawn",
        lambda scene: scene.publish(users=[]),
        lambda scene, told, acted: _is_carried_out(told, acted) and not _has_helper(scene),
    ),
    Step(
        "a feature is required that nobody has",
        lambda scene: scene.publish(features=["Unheard.Of"]),
        lambda _scene, told, acted: _is_carried_out(told, acted, code=2001),
    ),
    Step(
        "resumed on another host: the same incarnation, another certificate and container",
        lambda scene: scene.publish("rotate", "same-incarnation", plugins=[_plugin("Demo.Good")]),
        lambda scene, _told, acted: _has_certificates(scene, acted),
    ),
)


def show(page: Page, wanted: Wanted) -> None:
    """A VM of its own, the steps, and what its commands show afterwards."""
    page.heading(f"Goal states (seconds since each was published; the VM polls every {PERIOD_S:g} s here)")
    around = Surroundings.make()
    with Lab(image_files(CONFIG) | around.files()) as lab:
        scene = Scene(lab)
        around.start_host(scene, more=["--certificates=rsa"])
        scene.insert(wanted.medium("udf"))
        agent = scene.start_agent()
        try:
            until("a first status", lambda: scene.steer("last")["status"], 2 * WITHIN_S)
            for step in STEPS:
                _play(page, scene, step)
        except WaitedInVain as vain:
            page.check("goal states", False, f"{vain}; its log:\n{scene.log()}")
        for command in ("goal-state", "certificates", "ps"):
            page.heading(f"agent-supervisor {command}")
            shown = lab.run([str(AGENT), command])
            page.text(shown.stdout + shown.stderr)
            page.check(f"{command} answers", shown.returncode == 0, f"status {shown.returncode}")
        scene.stop_agent(agent)


def _play(page: Page, scene: Scene, step: Step) -> None:
    """One step: its timeline, and whether the VM has followed. Raises WaitedInVain."""
    seen = len(scene.records())
    began = SystemClock().monotonic()
    acted = step.act(scene)

    def is_done() -> bool:
        last: Any = scene.steer("last")["status"]
        return step.is_done(scene, last, acted)

    page.line(f"{step.what}")
    until(step.what, is_done, WITHIN_S)
    told = [record for record in scene.records()[seen:] if record["route"] in ROUTES and record["status"] != 304]
    for record in told:
        after_s = float(str(record["monotonic"])) - began
        page.line(f"{after_s:8.3f}  {record['method']} {ROUTES[str(record['route'])]}: {record['status']}")
    page.check("followed", bool(told), "the host knows it" if told else "without a request")
