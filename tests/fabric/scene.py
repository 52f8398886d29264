# SPDX-License-Identifier: Apache-2.0
"""Owns a VM's first boot in a lab: the emulated host on its real address, the DVD, the agent, and what the host saw.

Runs in the test or the demo; the host and the agent run in the lab. It judges nothing: outcome.py does.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fabric.documents import Health, RoleProperties, read_health, read_role_properties
from tests.fabric.lab import PROJECT, Lab, LabError, PlacedFile, send_signal
from tests.fabric.media import make_medium, make_ovf
from tests.fabric.waiting import until
from tests.fabric.wire_control import ask

AGENT = PROJECT / ".venv/bin/agent-supervisor"
LISTEN = "168.63.129.16:80"
RECORD = "/run/fabric/record.jsonl"
CONTROL = "/run/fabric/control"
AGENT_LOG = "/run/fabric/agent.log"
MEDIUM = "/dev/sr0"
TRANSPORT_CERTIFICATE = "/var/lib/agent-supervisor/credentials/transport.crt"
# The public half of a key pair of which the private half was thrown away.
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAsPJpgTIrM1F+r/IXNNu9K9032ffjmsq9Q6nyGHD6wA operator@laptop"
OLD_HOST_KEY = b"a key that the image brought along\n"
SSHD_CONFIG = b"""Include /etc/ssh/sshd_config.d/*.conf
KbdInteractiveAuthentication no
UsePAM yes
Subsystem sftp /usr/lib/openssh/sftp-server
"""
CLOUD_INIT_SWITCH = "/etc/cloud/cloud-init.disabled"
CONFIG = b"""# As an image brings it; everything else is the default.
Provisioning.Agent=waagent
Provisioning.DeleteRootPassword=y
Provisioning.RegenerateSshHostKeyPair=y
Provisioning.SshHostKeyPairType=auto
Provisioning.DecodeCustomData=y
"""


@dataclass(frozen=True)
class Wanted:
    """What the tenant asked for when the VM was made."""

    user: str = "azureuser"
    password: str | None = "Correct-Horse-7-Battery"
    host_name: str = "vm-demo"
    keys: tuple[str, ...] = (KEY,)
    custom_data: bytes | None = b"#cloud-config\npackages: []\n"
    disable_password: bool = False

    def ovf(self) -> bytes:
        """ovf-env.xml that says so."""
        return make_ovf(
            self.user,
            self.password,
            self.host_name,
            self.keys,
            self.custom_data,
            disable_password=self.disable_password,
        )

    def medium(self, form: str = "udf") -> bytes:
        """A DVD image with it (media.make_medium names the forms)."""
        return make_medium(self.ovf(), form)


def image_files(config: bytes = CONFIG) -> dict[str, bytes | PlacedFile]:
    """What a Linux image for Azure has before its first boot, beside what this machine's root has anyway."""
    return {
        "/etc/waagent.conf": config,
        # The machine below the overlay may be one of cloud-init's; cloud_init.enable takes this away.
        CLOUD_INIT_SWITCH: b"",
        "/etc/ssh/sshd_config": SSHD_CONFIG,
        "/etc/ssh/sshd_config.d/10-image.conf": b"X11Forwarding no\n",
        "/etc/ssh/ssh_host_dsa_key": PlacedFile(OLD_HOST_KEY, 0o600),
        "/etc/ssh/ssh_host_dsa_key.pub": OLD_HOST_KEY,
    }


@dataclass(frozen=True)
class Report:
    """A health report that the host accepted, and when (seconds of the machine's monotonic clock)."""

    health: Health
    monotonic: float

    @property
    def brief(self) -> str:
        """State, and what belongs to it."""
        return " ".join(filter(None, (self.health.state, self.health.sub_status, self.health.description)))


# What the log says at the start of a supervisor, and when it has read the medium.
STARTED, READ = " INFO supervisor agent-supervisor ", " read: account "


@dataclass
class Scene:
    """One VM. `lab` is up already; `agent_cgroup` is where the agent runs, below the lab's own groups."""

    lab: Lab
    agent_cgroup: str = "agent"
    _read: tuple[int, list[dict[str, object]]] = field(default_factory=lambda: (0, []))

    def start_host(self, *faults: str, more: Sequence[str] = ()) -> None:
        """Have the emulated host listen on its real address; `faults` as wireserver's --fault takes them, `more` are
        further options of it."""
        self.lab.output("mkdir", "-p", "/run/fabric")
        options = [*more, *(word for fault in faults for word in ("--fault", fault))]
        host = self.lab.popen(
            [sys.executable, "-m", "tests.fabric.wireserver", "--listen", LISTEN]
            + ["--record", RECORD, "--control", CONTROL, *options],
            cgroup="fabric",
            cwd=str(PROJECT),
            stdout=subprocess.PIPE,
        )
        if host.stdout is None or not host.stdout.readline().startswith(b"listening"):
            raise LabError("the emulated host did not start; its messages are on stderr")
        host.stdout.close()

    def steer(self, command: str) -> Mapping[str, object]:
        """Tell the running host something (wire_control.Control has the list)."""
        return ask(self.lab.path(CONTROL), command)

    def publish(self, *words: str, **plan: object) -> Mapping[str, object]:
        """Have the host publish its next goal state: the words of publishing.py; the plan, if any, as plan.Plan has
        it."""
        return self.steer(" ".join(("publish", *words, *([json.dumps(plan)] if plan else []))))

    def insert(self, image: bytes) -> None:
        """Put a DVD in the drive."""
        self.lab.path(MEDIUM).write_bytes(image)

    def start_agent(self, *options: str) -> subprocess.Popen[bytes]:
        """Start the agent as its unit does, in a cgroup of its own; it logs to AGENT_LOG."""
        with self.lab.path(AGENT_LOG).open("ab") as log:
            return self.lab.popen([str(AGENT), "run", *options], cgroup=self.agent_cgroup, stdout=log, stderr=log)

    def stop_agent(self, agent: subprocess.Popen[bytes], timeout_s: float = 15.0) -> int:
        """End it as systemd would; the exit status."""
        send_signal(agent, signal.SIGTERM)
        return agent.wait(timeout=timeout_s)

    def log(self) -> str:
        """What the agent said so far."""
        return self.lab.path(AGENT_LOG).read_text(errors="replace")

    def records(self) -> list[dict[str, object]]:
        """Every request that the host saw, oldest first (recording.Record, as JSON has it)."""
        at, known = self._read
        try:
            with self.lab.path(RECORD).open("rb") as file:
                file.seek(at)
                whole, end, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        if end:
            self._read = at + len(whole) + 1, [*known, *map(json.loads, whole.splitlines())]
        return self._read[1]

    def reports(self) -> list[Report]:
        """The health reports that the host accepted, oldest first."""
        taken = [r for r in self.records() if r["route"] == "health" and r["verdict"] == "accepted"]
        return [Report(read_health(str(r["body"]).encode()), float(str(r["monotonic"]))) for r in taken]

    def role_properties(self) -> list[RoleProperties]:
        """The role properties that the host accepted, oldest first."""
        taken = [r for r in self.records() if r["route"] == "roleproperties" and r["verdict"] == "accepted"]
        return [read_role_properties(str(r["body"]).encode()) for r in taken]

    def is_ready(self) -> bool:
        """Has the host accepted Ready?"""
        return any(report.health.state == "Ready" for report in self.reports())

    def is_settled(self) -> bool:
        """Has the host accepted Ready, and has the agent made what it makes only after that?"""
        return self.is_ready() and self.lab.path(TRANSPORT_CERTIFICATE).exists()

    def is_fresh(self) -> bool:
        """Is the supervisor that runs now one that has read no medium? The one that has makes room for it."""
        return READ not in self.log().rpartition(STARTED)[2]

    def is_decided(self) -> bool:
        """Has the host been told how provisioning ended, well or not?"""
        return any(r.health.state == "Ready" or r.health.sub_status == "ProvisioningFailed" for r in self.reports())

    def wait_until_ready(self, timeout_s: float = 20.0) -> None:
        """WaitedInVain when the host gets no Ready in time."""
        until("Ready accepted by the host", self.is_settled, timeout_s)

    def workers(self) -> dict[str, list[int]]:
        """The agent's workers now, by cgroup, with the pids of their processes as the host numbers them."""
        found: dict[str, list[int]] = {}
        for top in self.lab.cgroups.values():
            for name, folder in _groups(top / self.agent_cgroup / "workers"):
                found.setdefault(name, []).extend(_pids(folder))
        return found


def _groups(folder: Path) -> list[tuple[str, str]]:
    with contextlib.suppress(OSError):
        return [(entry.name, entry.path) for entry in os.scandir(folder) if entry.is_dir()]
    return []


def _pids(cgroup: str) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(cgroup, "cgroup.procs").read_text().split()]
    return []


def children_of(pid: int) -> list[int]:
    """The children of a process, as the host numbers them; none when it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def spawner_pid(agent: subprocess.Popen[bytes]) -> int:
    """The agent's first process, as the host numbers it."""
    # The shell that joins the cgroups has children, too: only nsenter's is the one that becomes the agent.
    return until("the spawner", lambda: _nsenters_children(agent.pid))[0]


def supervisor_pid(agent: subprocess.Popen[bytes]) -> int:
    """The supervisor, as the host numbers it."""
    return until("the supervisor", lambda: _supervisors(spawner_pid(agent)))[0]


def kill_process(pid: int) -> bool:
    """kill -9; False when it is gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _nsenters_children(pid: int) -> list[int]:
    return children_of(pid) if _words(pid)[:1] == ["nsenter"] else []


def _supervisors(spawner: int) -> list[int]:
    return [child for child in children_of(spawner) if "supervisor.main" in _words(child)]


def _words(pid: int) -> list[str]:
    """The process's argument list; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
