# SPDX-License-Identifier: Apache-2.0
"""Owns what the supervisor sees of systemd on a machine that has it, in a lab that has none: what a generator has left,
and two sockets at which somebody writes down what is told. Runs in the test."""

import sys

from tests.fabric.lab import Lab, PlacedFile
from tests.fabric.scene import CLOUD_INIT_SWITCH
from tests.fabric.waiting import until

NOTIFY, JOURNAL = "/run/systemd/notify", "/run/systemd/journal/socket"
HEARD = "/run/fabric/heard"
# What is in it switches cloud-init off, which the image has switched on.
GENERATED = "/run/systemd/generator"
IMAGE: dict[str, bytes | PlacedFile] = {
    "/etc/systemd/system/lab.target.wants/cloud-init-local.service": PlacedFile(b"[Service]\n")
}
_LISTEN = """
import select, socket, sys
ears = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in sys.argv[2:]]
for ear, path in zip(ears, sys.argv[2:]):
    ear.bind(path)
with open(sys.argv[1], "ab", 0) as heard:
    while True:
        for ear in select.select(ears, [], [])[0]:
            heard.write(ear.recv(65536) + b"\\n")
"""


def begin(lab: Lab) -> None:
    """Make it so."""
    lab.output("mkdir", "-p", "/run/fabric", "/run/systemd/journal", GENERATED)
    lab.output("rm", "-f", CLOUD_INIT_SWITCH)
    lab.output("ln", "-s", "/dev/null", f"{GENERATED}/cloud-init-local.service")
    lab.popen([sys.executable, "-I", "-c", _LISTEN, HEARD, NOTIFY, JOURNAL])
    until("somebody listens", lab.path(HEARD).exists)


def expect_told(lab: Lab) -> None:
    """The supervisor said that it is ready, and gave the journal a copy of what it recorded."""
    until("READY=1", lambda: b"READY=1" in lab.path(HEARD).read_bytes())
    assert b"AGENT_SUPERVISOR_EVENT=agent-start" in lab.path(HEARD).read_bytes()
