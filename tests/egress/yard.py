# SPDX-License-Identifier: Apache-2.0
"""Owns a VM whose host is another machine: the real agent, the emulated host behind its uplink, and others who try.

Runs in the test. A mechanism is had by taking from the lab what the better ones need; the agent is as it ships.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ipc.messages import Rule
from ipc.messages.egress import Mechanism
from policy.egress import ebtables, iptables, nft
from tests.egress.attempt import ADDRESS
from tests.egress.rules_ground import NETWORKS
from tests.fabric.lab import PROJECT, Lab, LabError
from tests.fabric.scene import CONTROL, RECORD, Scene, Wanted, image_files
from tests.fabric.vm import QUICK, Vm

# What a lab lacks that has only this one.
LACKING: Mapping[Mechanism, str] = {
    "nft-cgroup": "true",
    "nft-uid": "umount -n $(findmnt -n -o TARGET -t cgroup2)",
    "iptables": "rm -f /usr/sbin/nft",
}
# The lab's own /proc can't be written there.
FORWARDS = "unshare --mount sh -c 'mount -t proc proc /mnt && echo 1 >/mnt/sys/net/ipv4/ip_forward'"
NOBODY = 65534
# The scene reads that of the WireServer's own port.
RECORDS = {80: RECORD, 32526: f"{RECORD}.32526"}
CONFIG = QUICK + b"OS.EnableFirewallPeriod=1\nExtensions.GoalStatePeriod=1\n"
EVERYTHING = {"nft-cgroup": "nft flush ruleset", "nft-uid": "nft flush ruleset", "iptables": "iptables -w -F"}


class Yard(Vm):
    """One VM, its host on both ports."""

    def prepare(self, mechanism: Mechanism) -> None:
        """The networks, the hosts, and what of the rule the machine can do."""
        done = self.lab.run(["sh", "-c", f"{NETWORKS}\n{FORWARDS}\nmkdir -p /run/fabric\n{LACKING[mechanism]}"])
        if done.returncode != 0:
            raise LabError(done.stderr)
        for port, record in RECORDS.items():
            options = ["--listen", f"{ADDRESS}:{port}", "--record", record, "--control", f"{CONTROL}.{port}"]
            host = self.lab.popen(
                ["nsenter", "--net=/run/nets/host", sys.executable, "-m", "tests.fabric.wireserver", *options],
                cgroup="fabric",
                cwd=str(PROJECT),
                stdout=subprocess.PIPE,
            )
            assert host.stdout is not None
            assert host.stdout.readline().startswith(b"listening")
            host.stdout.close()

    def load_boot_rule(self, mechanism: Mechanism) -> None:
        """The one that nobody is admitted by, as a unit loads it before the network is up."""
        rule = Rule(mechanism, "enforce", ADDRESS)
        if mechanism == "iptables":
            listing = "".join(self.lab.output("iptables", *words) for words in iptables.LISTS)
            command, text = ["iptables-restore", *iptables.RESTORE], iptables.ruleset(rule, listing)
            for words in (ebtables.MAKE, *ebtables.filling(rule, ())):
                self.lab.output("ebtables", *words)
        else:
            command, text = ["nft", *nft.LOAD], nft.ruleset(rule) + nft.bridge(rule)
        done = self.lab.run(command, given=text.encode())
        if done.returncode != 0:
            raise LabError(done.stderr)

    def attempt(
        self, way: str, name: str, *, uid: int = 0, net: str = "", cgroup: str = "other"
    ) -> subprocess.Popen[bytes]:
        """Somebody who tries (tests.egress.attempt); each port's outcome will be a line of its output."""
        enter = ["nsenter", f"--net=/run/nets/{net}"] if net else []
        become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
        return self.lab.popen(
            [*enter, *become, sys.executable, "-m", "tests.egress.attempt", way, name],
            cgroup=cgroup,
            cwd=str(PROJECT),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def reached(self) -> list[str]:
        """The attempts that the host has seen, on either port."""
        files = [self.lab.path(record) for record in RECORDS.values()]
        seen = "".join(file.read_text() for file in files if file.exists())
        return re.findall(r"attempt=([a-z0-9-]+)", seen)

    def put_back(self) -> int:
        """How often the rule was, by `ps`."""
        snapshot = self.ps_or_none()
        return snapshot.overview.egress.put_back if snapshot is not None else 0


@contextmanager
def yard(mechanism: Mechanism, config: bytes = CONFIG) -> Iterator[Yard]:
    """The agent is still to be started; ended whatever happens."""
    with Lab(image_files(config)) as lab:
        made = Yard(Scene(lab), Wanted())
        made.prepare(mechanism)
        try:
            yield made
        except AssertionError as error:
            error.add_note(made.scene.log() if made.agents else "the agent was not started")
            raise
