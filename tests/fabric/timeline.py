# SPDX-License-Identifier: Apache-2.0
"""Owns the demo's timeline: watches a lab from outside and notes when each thing came true. Changes nothing.

What it tells is what is there (a line in passwd, a file, a report in the host's record), not what the agent says.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.fabric.scene import MEDIUM, OLD_HOST_KEY, Scene, Wanted
from tests.fabric.waiting import WaitedInVain, until

LOOK_EVERY_S = 0.004
# What may come true, and how to see it.
Facts = dict[str, Callable[[], bool]]


@dataclass(frozen=True)
class Event:
    """Something that came true `after_s` seconds after the start; `what` begins with a worker's name or is a fact."""

    after_s: float
    what: str
    is_fact: bool


class Timeline:
    """Watches from its making on, until what it waits for is there. `verifications`: so many verifiers were seen, of
    which each looks at a few workers; they have no lines of their own."""

    def __init__(self, scene: Scene, facts: Facts, tell: Callable[[Event], None]) -> None:
        self._scene = scene
        self._tell = tell
        self._facts = dict(facts)
        self.verifications = 0
        self._since: dict[str, float] = {}
        self._reports = 0
        self._started = time.monotonic()

    def watch(self, is_over: Callable[[], bool], timeout_s: float) -> bool:
        """Tell events as they come; True as soon as `is_over` and every worker has ended, False after `timeout_s`."""

        def look() -> bool:
            over = is_over()
            self._look()
            return over and not self._since

        try:
            return until("the end of the first boot", look, timeout_s, LOOK_EVERY_S)
        except WaitedInVain:
            return False

    def _look(self) -> None:
        now = time.monotonic() - self._started
        self._look_at_workers(now)
        for what in [what for what, is_so in self._facts.items() if is_so()]:
            del self._facts[what]
            self._tell(Event(now, what, is_fact=True))
        for report in self._scene.reports()[self._reports :]:
            self._reports += 1
            self._tell(Event(report.monotonic - self._started, f"host accepted {report.brief}", is_fact=True))

    def _look_at_workers(self, now: float) -> None:
        running = self._scene.workers()
        for name in running.keys() - self._since.keys():
            self._since[name] = now
        for name in self._since.keys() - running.keys():
            began = self._since.pop(name)
            if name.startswith("verifier."):
                self.verifications += 1
                continue
            self._tell(Event(now, f"{name} ends, after {1000 * (now - began):.0f} ms", is_fact=False))


def facts(scene: Scene, wanted: Wanted) -> Facts:
    """What provisioning brings about, and how to see it from outside without starting anything."""

    lab = scene.lab

    def content(path: str) -> bytes:
        try:
            return lab.path(path).read_bytes()
        except OSError:
            return b""

    def hashed() -> bool:
        return f"\n{wanted.user}:$".encode() in content("/etc/shadow")

    def has_new_host_keys() -> bool:
        return content("/etc/ssh/ssh_host_dsa_key") != OLD_HOST_KEY and b"PRIVATE" in content(
            "/etc/ssh/ssh_host_ed25519_key"
        )

    home = f"/home/{wanted.user}"
    return {
        f"DVD in {MEDIUM} read, by the log": lambda: f"{MEDIUM} read" in scene.log(),
        "agent listens for commands": lambda: lab.path("/run/agent-supervisor/control.sock").exists(),
        "account made": lambda: f"\n{wanted.user}:".encode() in content("/etc/passwd") and lab.path(home).is_dir(),
        "password set": hashed,
        "sudo granted": lambda: wanted.user.encode() in content("/etc/sudoers.d/waagent"),
        "sshd configured": lambda: content("/etc/ssh/sshd_config.d/50-agent-supervisor.conf") != b"",
        "keys placed": lambda: wanted.keys[0].encode() in content(f"{home}/.ssh/authorized_keys"),
        "root's password locked": lambda: content("/etc/shadow").startswith(b"root:*LOCK*"),
        "host name set": lambda: content("/etc/hostname").strip() == wanted.host_name.encode(),
        "custom data stored": lambda: content("/var/lib/waagent/CustomData") == wanted.custom_data,
        "the DVD's document kept": lambda: b"<UserName>" in content("/var/lib/waagent/ovf-env.xml"),
        "SSH host keys in place": has_new_host_keys,
        "marked as provisioned": lambda: content("/var/lib/waagent/provisioned") != b"",
    }
