# SPDX-License-Identifier: Apache-2.0
"""Owns a VM on which a handler has a grant to the WireServer: the real agent, the real rule, the handler's own cgroup.

Runs in the test. What the handler sends is bytes; what becomes of them is judged by the tests.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.egress.yard import CONFIG, Yard, yard
from tests.fabric.lab import PROJECT
from tests.fabric.override_files import OverrideFiles, start_mutant
from tests.fabric.scene import CONTROL
from tests.fabric.waiting import until
from tests.fabric.wire_control import ask
from tests.jail.mutants import Mutation

HANDLER, PATH = "handler", "/metadata/recsvc/snapshot/dosnapshot"
LISTENER = ("listener", "127.63.129.17", "326")
TABLE = "agent_supervisor_grant_0"
BODY_BYTES = 4096
GRANT = f"""[[wireserver]]
handler = "Vendor.Snapshot"
cgroup = "{HANDLER}"
methods = ["POST"]
paths = ["{PATH}"]
queries = ["", "api-version=2017-12-01"]
body_bytes = {BODY_BYTES}
why = "The backup calls the host itself, at an address that stands in its code."
""".encode()
# Without it the kernel refuses the programs, as one that has none would.
WITHOUT_PROGRAMS = b"""[redirect]
why = "As on a kernel that has no such programs."
remove.capabilities = ["bpf"]
"""
REFUSED = "ConnectionRefusedError"


class Reply(NamedTuple):
    """What a handler got: the whole answer, or the name of an error; and how long it took."""

    text: str
    seconds: float

    @property
    def status(self) -> int:
        """0 for none."""
        words = self.text.split(" ", 2)
        return int(words[1]) if words[0].startswith("HTTP/") else 0


class Granted:
    """One VM; `vm` is the yard that it stands in."""

    def __init__(self, vm: Yard) -> None:
        self.vm = vm

    def send(self, content: bytes, way: Sequence[str] = ("once",), cgroup: str = HANDLER, uid: int = 0) -> Reply:
        """Have somebody send `content`, the handler if nobody else is named."""
        out, _ = self.begin(way, cgroup, uid).communicate(content, timeout=60)
        seconds, _, text = out.decode(errors="replace").partition("\n")
        return Reply(text, float(seconds))

    def begin(self, way: Sequence[str], cgroup: str = HANDLER, uid: int = 0) -> subprocess.Popen[bytes]:
        """The process alone."""
        become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
        command = [*become, sys.executable, "-m", "tests.egress.handler", *way]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return self.vm.lab.popen(command, cgroup=cgroup, cwd=str(PROJECT), **streams)  # type: ignore[arg-type]

    def seen(self) -> list[dict[str, object]]:
        """What has reached the host under `/metadata` or about certificates; of those the agent itself says more."""
        targets = ((each, str(each["target"])) for each in self.vm.scene.records())
        return [each for each, target in targets if "metadata" in target or target.endswith("?comp=certificates")]

    def steer(self, command: str) -> None:
        """Tell the host something."""
        ask(self.vm.lab.path(f"{CONTROL}.80"), command)

    def log(self) -> str:
        return self.vm.scene.log()

    def opened(self) -> int:
        """How many times a grant was opened so far."""
        return self.log().count("firewall grant: Vendor.Snapshot may POST")

    def committers(self) -> int:
        """How many of the redirect's have ended so far."""
        lines = self.vm.lab.read("/var/lib/agent-supervisor/audit.log").decode().splitlines()
        entries = [json.loads(line) for line in lines]
        return len([each for each in entries if each.get("kind") == "redirect" and each.get("event") == "worker-exit"])

    def forwarders(self) -> list[int]:
        """As the host numbers them."""
        workers = self.vm.scene.workers()
        return sorted({pid for name, pids in workers.items() if name.startswith("forwarder") for pid in pids})


def post(body: bytes = b"{}", target: str = PATH, *headers: str, method: str = "POST") -> bytes:
    """A request as a handler writes it."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 168.63.129.16", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def granted(*mutations: Mutation, overrides: bytes = b"", channel: str = "") -> Iterator[Granted]:
    """Provisioned, and the grant open; with `mutations` in the spawner and its workers. `channel` is the mode of the
    host's secure channel, if it has one."""
    with yard("nft-cgroup") as vm:
        vm.lab.write("/etc/waagent.conf", CONFIG + b"Policy.AllowLoosening=y\n")
        OverrideFiles(vm.lab).put({"50-grant.toml": GRANT, "60-more.toml": overrides})
        made = Granted(vm)
        if channel:
            made.steer(f"channel {channel}")
        for folder in vm.lab.cgroups.values():
            (folder / HANDLER).mkdir(exist_ok=True)
        vm.scene.insert(vm.wanted.medium())
        vm.agents.append(start_mutant(vm.lab, mutations) if mutations else vm.scene.start_agent())
        vm.scene.wait_until_ready()
        until("the grant, opened or not", lambda: "firewall grant: Vendor.Snapshot" in vm.scene.log(), 15)
        yield made
