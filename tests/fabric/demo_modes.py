# SPDX-License-Identifier: Apache-2.0
"""Owns the demo's modes, one a value of Provisioning.Agent: what is in the image, who does what, what is right then.

Runs in the demo, outside the lab. In the mode cloud-init a stand-in plays cloud-init; it says so.
"""

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.fabric import cloud_init
from tests.fabric.lab import Lab, PlacedFile
from tests.fabric.outcome import Check, judge, marker_check, refusal_check
from tests.fabric.scene import AGENT, CONFIG, Scene, Wanted, image_files
from tests.fabric.timeline import Facts, facts
from tests.fabric.waiting import until

AGENTS_OWN = ("/var/lib/agent-supervisor", "/var/lib/waagent", "/var/log/waagent.log", "/run/")
SPOOL = "/var/lib/agent-supervisor/telemetry/"
# In the order in which the stand-in makes them; "auto" in the image's settings waits for the last.
KEY_TYPES = ("ecdsa", "ed25519", "rsa")
PUBLIC_KEY = "/etc/ssh/ssh_host_rsa_key.pub"
LATE_S = 20.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Mode:
    """One value of Provisioning.Agent. `beside` runs while the agent does; `judge` has all that must be true then."""

    agent: str
    why: str
    facts: Callable[[Scene, Wanted], Facts]
    judge: Callable[[Scene, Wanted], list[Check]]
    prepare: Callable[[Lab], None] = lambda _: None
    beside: Callable[[Scene, Wanted, Tell], None] = lambda *_: None

    def image(self) -> dict[str, bytes | PlacedFile]:
        """The image's files, its waagent.conf with this agent in it."""
        return image_files(CONFIG.replace(b"Agent=waagent", b"Agent=" + self.agent.encode()))

    def judge_all(self, scene: Scene, wanted: Wanted) -> list[Check]:
        """Every check: what the mode asks for, and that the log names the option that decided."""
        said = [line for line in scene.log().splitlines() if self.why in line]
        return [*self.judge(scene, wanted), Check("the log says who, and why", len(said) == 1, " ".join(said)[25:])]


def next_start(scene: Scene) -> list[Check]:
    """Another start of the agent: nothing is done twice."""
    before = scene.lab.changed()
    agent = scene.start_agent()
    told = until("its word", lambda: _told(scene), LATE_S)
    briefs = [report.brief for report in scene.reports()]
    scene.stop_agent(agent)
    # Events that were noted are kept until they are sent.
    same = [each for each in scene.lab.changed() if each not in before and not each.path.startswith(SPOOL)]
    return [
        Check("next start: done already", "done" in told, told),
        Check("no second Ready", briefs.count("Ready") == 1, ", ".join(briefs)),
        Check("nothing new is changed", not same, " ".join(change.path for change in same) or "nothing"),
    ]


def _told(scene: Scene) -> str:
    """The line of `ps` about provisioning, once it is over."""
    lines = scene.lab.run([str(AGENT), "ps"]).stdout.splitlines()
    line = next((line for line in lines if line.startswith("provisioning:")), "")
    return line if "on an earlier start" in line or "not done by this agent" in line else ""


def _few(*names: str) -> Callable[[Scene, Wanted], Facts]:
    return lambda scene, wanted: {name: fact for name, fact in facts(scene, wanted).items() if name in names}


def _play_cloud_init(scene: Scene, wanted: Wanted, tell: Tell) -> None:
    """What cloud-init does, once this agent waits for it."""
    until("the agent waits for the document", lambda: f"{cloud_init.DOCUMENT} is still" in _ps(scene), LATE_S, 0.1)
    tell("stand-in for cloud-init: makes host name, account, password, keys")
    cloud_init.make_account(scene.lab, wanted)
    tell(f"stand-in for cloud-init: leaves {cloud_init.DOCUMENT}")
    cloud_init.leave_document(scene.lab, cloud_init.document(wanted))
    until("the agent waits for the key", lambda: f"{PUBLIC_KEY} is still" in _ps(scene), LATE_S, 0.1)
    tell("stand-in for cloud-init: makes SSH host keys")
    cloud_init.make_host_keys(scene.lab, *KEY_TYPES)


def _ps(scene: Scene) -> str:
    return scene.lab.run([str(AGENT), "ps"]).stdout


def _judge_cloud_init(scene: Scene, wanted: Wanted) -> list[Check]:
    with Lab(MODES["cloud-init"].image(), hostname="localhost") as other:
        cloud_init.enable(other)
        cloud_init.make_account(other, wanted)
        cloud_init.make_host_keys(other, *KEY_TYPES)
        alone = set(_changes(other))
    here = set(_changes(scene.lab))
    different = sorted(f"{path} {mode}" for path, mode in here ^ alone)
    shown = scene.lab.run(["ssh-keygen", "-lf", PUBLIC_KEY]).stdout.split()
    waited_for = f"cloud-init has made its SSH host keys: {shown[1] if shown else PUBLIC_KEY}"
    return [
        Check("as the stand-in alone leaves a VM", not different, " ".join(different) or f"{len(here)} paths the same"),
        Check("its host key was waited for", waited_for in scene.log(), waited_for),
        marker_check(scene.lab),
        *_judge_host(scene, "NotReady Provisioning Starting", "Ready"),
    ]


def _judge_disabled(scene: Scene, wanted: Wanted) -> list[Check]:
    changed = sorted(path for path, _ in _changes(scene.lab))
    account = scene.lab.run(["getent", "passwd", wanted.user]).stdout.strip()
    return [
        Check("nothing of the VM is changed", not changed, " ".join(changed) or "nothing but the agent's own files"),
        Check("no account", not account, account or f"no {wanted.user}"),
        marker_check(scene.lab),
        *_judge_host(scene, "Ready"),
    ]


def _judge_host(scene: Scene, *wanted: str) -> list[Check]:
    briefs = [report.brief for report in scene.reports()]
    return [Check(f"reports: {len(wanted)}", briefs == list(wanted), ", ".join(briefs)), refusal_check(scene)]


def _changes(lab: Lab) -> Iterator[tuple[str, str]]:
    """What differs from the image outside of the agent's own files: path, kind and mode."""
    for change in lab.changed():
        if not change.path.startswith(AGENTS_OWN):
            yield change.path, f"{change.kind} {stat.filemode(change.mode)} {change.uid}:{change.gid}"


MARKED = "marked as provisioned"
HERE = "cloud-init is not enabled"
MODES = {
    mode.agent: mode
    for mode in (
        Mode("auto", f"this agent provisions this VM: Provisioning.Agent is auto, {HERE}", facts, judge),
        Mode("waagent", f"this agent provisions this VM: Provisioning.Agent is waagent, {HERE}", facts, judge),
        Mode(
            "cloud-init",
            "cloud-init provisions this VM: Provisioning.Agent is cloud-init, cloud-init is enabled by",
            _few("account made", "password set", "keys placed", "host name set", "the DVD's document kept", MARKED),
            _judge_cloud_init,
            cloud_init.enable,
            _play_cloud_init,
        ),
        Mode("disabled", "not done by this agent: Provisioning.Agent is disabled", _few(MARKED), _judge_disabled),
    )
}
