# SPDX-License-Identifier: Apache-2.0
"""Owns custom data that tell of themselves: who they run as, where, and with what; read back from the lab.

Runs in tests; the scripts run in the lab, and write below /root/told.
"""

from dataclasses import dataclass

from tests.fabric.lab import Lab
from tests.fabric.vm import QUICK

FOLDERS = ("/var/lib/agent-supervisor", "/run/agent-supervisor")
CONFIG = QUICK + b"Provisioning.ExecuteCustomData=y\n"
OUTPUT_WORD = "only-for-its-own-output"
STATUS = 3
TELLS = f"""
mkdir -p /root/told
cd_at_first=$(pwd)
echo run >>/root/told/runs
echo "$$" >/root/told/pid
echo {OUTPUT_WORD[:4]}""{OUTPUT_WORD[4:]}
env >/root/told/environment
umask >/root/told/umask
echo "$cd_at_first" >/root/told/folder
cat /proc/$$/status >/root/told/status
cat /proc/$$/cgroup >/root/told/groups
readlink /proc/$$/fd/* >/root/told/descriptors
for each in {" ".join(FOLDERS)}; do ls -A "$each"; done >/root/told/folders
grep ^root: /etc/shadow >/root/told/shadow
"""
TELLING = f"#!/bin/sh\n{TELLS}sleep 1000 &\nexit {STATUS}\n".encode()
# Waits in the middle until somebody says go.
WAITING = f"{TELLS}until [ -e /root/go ]; do sleep 0.02; done\necho end >>/root/told/ends\nexit {STATUS}\n".encode()
ENDLESS = f"{TELLS}sleep 1000 & sleep 1000\n".encode()


@dataclass(frozen=True)
class Told:
    """What a run told of itself; read once it was there."""

    lab: Lab

    def __getitem__(self, name: str) -> str:
        return self.lab.read(f"/root/told/{name}").decode()

    def count(self, name: str) -> int:
        """How many lines; 0 for what was not told at all."""
        done = self.lab.run(["cat", f"/root/told/{name}"])
        return len(done.stdout.splitlines())

    def descriptors(self) -> set[str]:
        """What it found open, beside what it wrote this to."""
        return {link for link in self["descriptors"].split() if not link.startswith("/root/told/")}

    def status(self, name: str) -> str:
        """A field of its /proc/PID/status."""
        fields = dict(line.split(":", 1) for line in self["status"].splitlines())
        return " ".join(fields[name].split())


def go(lab: Lab) -> None:
    """Let WAITING end."""
    lab.output("touch", "/root/go")


def sleepers(lab: Lab) -> list[int]:
    """What a run left behind."""
    return [process.pid for process in lab.processes() if process.argv == ("sleep", "1000")]
