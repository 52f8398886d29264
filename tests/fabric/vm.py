# SPDX-License-Identifier: Apache-2.0
"""Owns what a test of trouble asks of a VM again and again: is the agent well, what says `ps`, what is left behind.

Runs in tests, outside the lab. It steers only what the scene can steer, and judges nothing that outcome.py judges.
"""

import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from supervisor.cli.client import ask
from supervisor.layout import Layout
from supervisor.status import Snapshot
from supervisor.verbs import PS
from tests.fabric.lab import VM_ID, Lab, PlacedFile
from tests.fabric.outcome import judge
from tests.fabric.scene import AGENT, AGENT_LOG, CONFIG, Scene, Wanted, image_files, spawner_pid, supervisor_pid
from tests.fabric.waiting import until

# One key, quickly made; and no long wait for a medium that never comes.
QUICK = CONFIG.replace(b"Type=auto", b"Type=ed25519") + b"Provisioning.MediaTimeout=1\n"
# What a first boot may write before it has read and checked everything: the agent's own, and keys not in force yet.
ITS_OWN = (
    "/var/lib/agent-supervisor",
    "/var/lib/waagent",
    "/var/log/waagent.log",
    "/etc/ssh/.agent-supervisor-host-keys",
)
PS_WITHIN_S = 3.0
AT_A_TIME = 3
C = TypeVar("C")


@dataclass
class Vm:
    """A VM in its lab. `before` are the processes that are not the agent's.

    `slowest_ps_s` is the longest time that `ps` took to answer so far."""

    scene: Scene
    wanted: Wanted
    before: frozenset[int] = frozenset()
    slowest_ps_s: float = 0.0
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def lab(self) -> Lab:
        return self.scene.lab

    @property
    def agent(self) -> subprocess.Popen[bytes]:
        """The agent that was started last."""
        return self.agents[-1]

    def boot(self, medium: bytes | None, *options: str) -> None:
        """Start the agent with `medium` in the drive, None for an empty one."""
        if medium is not None:
            self.scene.insert(medium)
        self.agents.append(self.scene.start_agent(*options))

    def residents(self) -> tuple[int, int]:
        """Spawner and supervisor, as the host numbers them, once there is somebody to ask."""
        until("an agent that answers", self.ps_or_none)
        return spawner_pid(self.agent), supervisor_pid(self.agent)

    def settled(self) -> tuple[int, int]:
        """The same, once the supervisor that has provisioned has made room for the next one."""
        until("a fresh supervisor", lambda: self.scene.is_fresh() and self.ps_or_none())
        return self.residents()

    def ps(self) -> Snapshot:
        """What the control socket answers now; OSError while nobody listens there."""
        began = time.monotonic()
        answer = ask(str(self.lab.path(Layout().control_socket)), PS)
        self.slowest_ps_s = max(self.slowest_ps_s, time.monotonic() - began)
        return msgspec.json.decode(answer.data, type=Snapshot)

    def ps_or_none(self) -> Snapshot | None:
        """As `ps`; None while the agent is not there to ask."""
        try:
            return self.ps()
        except OSError:
            return None

    def story(self) -> str:
        """What `ps` says of provisioning; empty while the agent is not there to ask."""
        snapshot = self.ps_or_none()
        return snapshot.overview.provisioning if snapshot is not None else ""

    def ps_command(self, *options: str) -> str:
        """What the command prints."""
        return self.lab.output(str(AGENT), "ps", *options)

    def wait_until_decided(self, timeout_s: float = 15.0) -> str:
        """The last report, once the host knows how provisioning ended; `ps` is asked all the while."""

        def decided() -> bool:
            self.ps_or_none()
            return self.scene.is_decided()

        until("the end of provisioning", decided, timeout_s)
        return self.scene.reports()[-1].brief

    def refused(self) -> list[str]:
        """What the host refused, or did not get whole."""
        wrong = [record for record in self.scene.records() if record["verdict"] in {"refused", "broken"}]
        return [f"{record['method']} {record['target']}: {record['why']}" for record in wrong]

    def readies(self) -> int:
        """How many times the host accepted Ready."""
        return [report.health.state for report in self.scene.reports()].count("Ready")

    def mistakes(self) -> list[str]:
        """What is not as the tenant asked; empty after a good first boot."""
        return [f"{check.what}: {check.found}" for check in judge(self.scene, self.wanted) if not check.right]

    def applied(self) -> list[str]:
        """What was changed in the system beside the agent's own files."""
        return [change.path for change in self.lab.changed() if not change.path.startswith(ITS_OWN)]

    def told(self, secret: str) -> list[str]:
        """Every file in which `secret` stands, the log among them."""
        written = [change.path for change in self.lab.changed() if stat.S_ISREG(change.mode)]
        return [path for path in (*written, AGENT_LOG) if secret.encode() in self.lab.read(path)]

    def left_over(self) -> list[str]:
        """Processes that the agent left behind, once it has ended, and its workers' cgroups."""
        alive = [f"{p.pid} {' '.join(p.argv) or p.name}" for p in self.lab.processes() if p.pid not in self.before]
        return [*alive, *self.scene.workers()]


@contextmanager
def booted(
    wanted: Wanted | None = None,
    config: bytes = QUICK,
    faults: tuple[str, ...] = (),
    *,
    host: bool = True,
    image: Mapping[str, bytes | PlacedFile] | None = None,
    vm_id: str = VM_ID,
) -> Iterator[Vm]:
    """A VM whose host listens (unless not `host`), with its agent still to be started; ended whatever happens.

    `image` has files that its disk brings beside those of every image."""
    with Lab(image_files(config) | dict(image or {}), vm_id=vm_id) as lab:
        vm = Vm(Scene(lab), wanted or Wanted())
        lab.output("mkdir", "-p", str(Path(AGENT_LOG).parent))
        if host:
            vm.scene.start_host(*faults)
        vm.before = frozenset(process.pid for process in lab.processes())
        try:
            yield vm
        except AssertionError as error:
            error.add_note(vm.scene.log() if vm.agents else "the agent was not started")
            raise


class Ahead(Generic[C]):
    """Runs `play` for every case, some at a time: most of a case is waiting. `check` raises what its case raised."""

    def __init__(self, cases: Iterable[C], play: Callable[[C], None]) -> None:
        self._pool = ThreadPoolExecutor(AT_A_TIME)
        self._games = {case: self._pool.submit(play, case) for case in cases}

    def check(self, case: C) -> None:
        self._games[case].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
