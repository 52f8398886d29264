# SPDX-License-Identifier: Apache-2.0
"""Measures the agent at rest in a lab, after it has provisioned: memory, processor time, wake-ups, child processes, and
what it asks of the host.

All that Azure has is there, the host is polled at the default period, and its goal states are unchanged meanwhile.
"""

import subprocess
import sys
import time
from collections.abc import Sequence, Sized

from tests.bench import processes
from tests.bench.samples import Budget, Row
from tests.fabric.lab import Lab, LabError
from tests.fabric.scene import CONFIG, Scene, Wanted, image_files, spawner_pid, supervisor_pid
from tests.fabric.surroundings import Surroundings
from tests.fabric.waiting import until

SETTINGS = CONFIG.replace(b"KeyPairType=auto", b"KeyPairType=ed25519")
PSS_BUDGET_MIB, RSS_BUDGET_MIB, CPU_BUDGET_S, WAKEUPS_BUDGET = 34, 27, 0.02, 2
# To the WireServer, the HostGAPlugin and the metadata service, each on a connection that is kept.
REQUESTS_BUDGET, CONNECTIONS_BUDGET = 25, 1
# What each needs whatever it does: the interpreter, the messages' libraries, for the supervisor a ZeroMQ context.
EMPTY_SPAWNER = "import ctypes, msgpack, msgspec, zmq"
EMPTY_SUPERVISOR = f"{EMPTY_SPAWNER}; context = zmq.Context(io_threads=1); context.socket(zmq.PAIR)"
SETTLED_AFTER_S = 2.0
FULL_MINUTE_S = 60
GROWN_BUDGET_MIB = 0.5


def measure(seconds: int) -> list[Row]:
    """The agent let alone for `seconds`, and beside it two empty processes as the least that there could be."""
    around = Surroundings.make()
    with Lab(files=image_files(SETTINGS) | around.files()) as lab:
        scene = Scene(lab)
        scene.insert(Wanted().medium())
        around.start_host(scene)
        agent = scene.start_agent()
        scene.wait_until_ready(60)
        spawner = spawner_pid(agent)
        _wait_for_rest(spawner)
        # The one that has provisioned has made room for it.
        supervisor = supervisor_pid(agent)
        at_first = processes.pss_alone_mib(processes.process_tree(spawner))
        before = scene.records()
        idle = processes.watch_idle(spawner, seconds, time.monotonic)
        asked = scene.records()[len(before) :]
        known = {record["connection"] for record in before}
        opened = {record["connection"] for record in asked} - known
        tree = processes.process_tree(spawner)
        supervisor_rss, alone = processes.rss_mib(supervisor), processes.pss_alone_mib(tree)
        scene.stop_agent(agent)
        empty = _empty(lab)
    scaled = "" if seconds >= FULL_MINUTE_S else f" (scaled from {seconds} s)"
    return [
        Row("at idle: PSS of all processes", "MiB", (alone,), Budget(PSS_BUDGET_MIB, binding=True)),
        Row(f"  grown within {seconds} s", "MiB", (alone - at_first,), Budget(GROWN_BUDGET_MIB, binding=True)),
        Row("  of an empty supervisor and an empty spawner", "MiB", (empty,)),
        Row("  with the bench's own Pythons on the machine", "MiB", (idle.pss_mib,)),
        Row("  RSS of the supervisor", "MiB", (supervisor_rss,), Budget(RSS_BUDGET_MIB, binding=True)),
        Row(f"  CPU a minute{scaled}", "s", (idle.cpu_s_a_minute,), Budget(CPU_BUDGET_S, binding=False)),
        Row("  wake-ups a second", "1/s", (idle.wakeups_a_second,), Budget(WAKEUPS_BUDGET, binding=True)),
        Row("  child processes started", "count", (idle.children,), Budget(0, binding=True)),
        Row(f"  requests a minute{scaled}", "count", (_a_minute(asked, idle),), Budget(REQUESTS_BUDGET, binding=True)),
        Row(
            f"  connections opened a minute{scaled}",
            "count",
            (_a_minute(opened, idle),),
            Budget(CONNECTIONS_BUDGET, binding=False),
        ),
    ]


def _a_minute(things: Sized, idle: processes.Idle) -> float:
    return len(things) * 60 / idle.seconds


def _wait_for_rest(spawner: int) -> None:
    """Until the two residents have been alone for a while."""
    alone_since = time.monotonic()

    def at_rest() -> bool:
        nonlocal alone_since
        if len(processes.process_tree(spawner)) > 2:
            alone_since = time.monotonic()
        return time.monotonic() - alone_since >= SETTLED_AFTER_S

    until("an agent at rest", at_rest, 30, every_s=0.1)


def _empty(lab: Lab) -> float:
    """PSS, MiB, of two processes that have only imported what they can't do without."""
    empties = [_start(lab, code) for code in (EMPTY_SPAWNER, EMPTY_SUPERVISOR)]
    try:
        return processes.pss_alone_mib(_below([one.pid for one in empties]))
    finally:
        for one in empties:
            one.communicate(timeout=10)


def _start(lab: Lab, code: str) -> subprocess.Popen[bytes]:
    """A process that runs `code` and then waits for the end of its input."""
    program = f"{code}; import sys; print(flush=True); sys.stdin.read()"
    one = lab.popen([sys.executable, "-I", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if one.stdout is None or one.stdout.readline() != b"\n":
        raise LabError("an empty interpreter did not start")
    return one


def _below(pids: Sequence[int]) -> list[int]:
    """The processes that nsenter started, without nsenter itself."""
    return [member for pid in pids for member in processes.process_tree(pid) if member != pid]
