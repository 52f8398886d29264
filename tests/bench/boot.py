# SPDX-License-Identifier: Apache-2.0
"""Measures a first boot in a lab: from the agent's start until the host has accepted Ready, beyond what its keys cost.

How long an RSA key takes is luck: the same machine makes one in 0.1 s or in 1.5 s. Seven boots against the median of
other keys would mostly compare luck with luck. So each boot is held against its own keys: the processor time that the
processes which made them used in that very boot, read while they run, is what the same search for the same primes would
take alone (both search on one thread, each has a core). What waiting and starting adds to that even alone is measured
apart, on keys made side by side without an agent; of that the least counts, in the agent's disfavour.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import processes
from tests.bench.samples import Budget, Row, quantile, timed
from tests.fabric.lab import PATH, Lab
from tests.fabric.scene import CONFIG, Scene, Wanted, image_files, spawner_pid
from tests.fabric.waiting import until

# The default of waagent.conf.
KEY_TYPE = "rsa"
SETTINGS = CONFIG.replace(b"KeyPairType=auto", f"KeyPairType={KEY_TYPE}".encode())
VAULT = "import datetime, supervisor.vault.oneshot as v; v.make_transport_key(730, datetime.datetime.now(datetime.UTC))"
BEYOND_BUDGET_S = 0.25
# The same as a multiple of a bare interpreter's start, with room for one that does other things as well.
MOST_TIMES_BARE = 30
READY_WITHIN_S = 60.0
LOOK_EVERY_S = 0.005
# The most that the kernel takes.
FIRST = {"cpu.shares": "262144", "cpu.weight": "10000"}


@dataclass(frozen=True)
class Boot:
    """Seconds: from the start to Ready, and the processor time of the slower of the keys that were made until then."""

    ready_s: float
    key_cpu_s: float


@dataclass(frozen=True)
class Alone:
    """Seconds of two keys made side by side without an agent: of both by the clock, of each by the processor."""

    wall_s: float
    host_key_cpu_s: float
    transport_key_cpu_s: float


@dataclass
class KeyWatch:
    """Follows the processes that make keys. `groups` are the agent's own cgroup in each hierarchy: one at least has its
    workers. `cpu_s` is what each has used, as of the last look."""

    groups: tuple[Path, ...]
    cpu_s: dict[int, float] = field(default_factory=dict)

    def look(self) -> None:
        """Note what they have used by now; one that ends between two looks is noted a little short."""
        pids = [pid for pid, used in self.cpu_s.items() if used and processes.program_name(pid)] or self._makers()
        for pid in pids:
            self.cpu_s[pid] = max(self.cpu_s.get(pid, 0.0), processes.cpu_seconds([pid]))

    def _makers(self) -> list[int]:
        """Whoever is in the vault; beside the committer of host keys only the tool, not its companion around it."""
        tools = [pid for pid in self._pids("host-keys-programs.*") if processes.program_name(pid) == "ssh-keygen"]
        return self._pids("vault.*") + tools

    def _pids(self, group: str) -> list[int]:
        workers = next((folder for folder in self.groups if (folder / "workers").is_dir()), None)
        pids: list[int] = []
        for listing in workers.glob(f"workers/{group}/cgroup.procs") if workers else ():
            with contextlib.suppress(OSError):
                pids += map(int, listing.read_text().split())
        return pids


def measure(times: int) -> list[Row]:
    """`times` boots, each in a lab of its own, and as many pairs of keys without an agent."""
    bare: list[float] = []
    boots: list[Boot] = []
    alone: list[Alone] = []
    for _ in range(times):
        bare += timed(lambda: subprocess.run([sys.executable, "-I", "-c", "pass"], check=True), 3)
        alone.append(keys_alone())
        boots.append(boot())
    beside = min(one.wall_s - max(one.host_key_cpu_s, one.transport_key_cpu_s) for one in alone)
    # The agent makes the transport key after Ready; making both keys alone still takes as long as the slower of them.
    transport_s = quantile(tuple(one.transport_key_cpu_s for one in alone), 50)
    beyond = tuple(one.ready_s - max(one.key_cpu_s, transport_s) - beside for one in boots)
    ratio = quantile(beyond, 50) / quantile(tuple(bare), 50)
    return [
        Row(f"start to Ready, {KEY_TYPE} host key", "s", tuple(one.ready_s for one in boots)),
        Row("  the two keys alone, side by side (other keys)", "s", tuple(one.wall_s for one in alone)),
        Row("  start to Ready beyond that boot's own keys", "s", beyond, Budget(BEYOND_BUDGET_S, binding=False)),
        Row("  beyond its keys, as a multiple of python3 -I", "x", (ratio,), Budget(MOST_TIMES_BARE, binding=True)),
    ]


def boot() -> Boot:
    """One first boot. WaitedInVain when the host gets no Ready."""
    with Lab(files=image_files(SETTINGS)) as lab:
        scene = Scene(lab)
        scene.insert(Wanted().medium())
        scene.start_host()
        for group in lab.cgroups.values():
            go_first(group, scene.agent_cgroup)
        agent = scene.start_agent()
        started = processes.started_at(spawner_pid(agent))
        watch = KeyWatch(tuple(folder / scene.agent_cgroup for folder in lab.cgroups.values()))

        def is_ready() -> bool:
            watch.look()
            return scene.is_ready()

        until("Ready accepted by the host", is_ready, READY_WITHIN_S, LOOK_EVERY_S)
        ready = next(report.monotonic for report in scene.reports() if report.health.state == "Ready")
        scene.stop_agent(agent)
    return Boot(ready - started, max(watch.cpu_s.values(), default=0.0))


def go_first(lab: Path, agent: str) -> None:
    """Where groups share out processors, the lab's comes before everybody else's, and in it the agent's.

    A VM doesn't lend its processors to the host it talks to, nor to a stop-watch; here both run on the same ones."""
    for name, most in FIRST.items():
        if (lab / name).exists():
            (lab / name).write_text(most)
            (lab / agent).mkdir(exist_ok=True)
            (lab / agent / name).write_text(most)


def keys_alone() -> Alone:
    """The same two programs, side by side, without an agent."""
    with tempfile.TemporaryDirectory() as folder:
        commands = (
            ["ssh-keygen", "-q", "-t", KEY_TYPE, "-N", "", "-f", f"{folder}/key"],
            [sys.executable, "-I", "-c", VAULT],
        )
        start = time.perf_counter()
        makers = [subprocess.Popen(command, env={"PATH": PATH}) for command in commands]
        host_key_s, transport_key_s = (_reap(maker) for maker in makers)
        return Alone(time.perf_counter() - start, host_key_s, transport_key_s)


def _reap(maker: subprocess.Popen[bytes]) -> float:
    """Processor seconds of a process that ends well; CalledProcessError for any other."""
    _, status, usage = os.wait4(maker.pid, 0)
    maker.returncode = os.waitstatus_to_exitcode(status)
    if maker.returncode:
        raise subprocess.CalledProcessError(maker.returncode, maker.args)
    return usage.ru_utime + usage.ru_stime
