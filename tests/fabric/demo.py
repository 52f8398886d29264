# SPDX-License-Identifier: Apache-2.0
"""Owns the demo: a VM's first boot, for real, in a lab over this machine; goal states; extensions; each process killed.

`python -m tests.fabric.demo [--shell] [--agent WORD]`, as root. With a word for Provisioning.Agent, another start takes
the place of both. It checks by itself all that it tells, and that the machine is as it was; its exit status is 0
only if all of that is right.
"""

import argparse
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time

from tests.fabric import demo_extensions, demo_goal_states, demo_kills, demo_modes
from tests.fabric.demo_modes import Mode
from tests.fabric.host_state import HostState, snapshot
from tests.fabric.lab import PATH, PROJECT, Lab
from tests.fabric.page import Page
from tests.fabric.scene import AGENT, AGENT_LOG, CONTROL, Scene, Wanted
from tests.fabric.surroundings import Surroundings
from tests.fabric.timeline import Event, Timeline
from tests.fabric.waiting import WaitedInVain, until

READY_WITHIN_S = 30.0


def main() -> int:
    """The whole of it; the exit status."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--shell", action="store_true", help="leave a shell in the lab before it ends")
    parser.add_argument("--agent", choices=demo_modes.MODES, help="what Provisioning.Agent is in the image")
    options = parser.parse_args()
    wants_shell = options.shell or bool(os.environ.get("SHELL_INSIDE"))
    mode = demo_modes.MODES[options.agent or "waagent"]
    page = Page(sys.stdout)
    if os.geteuid() != 0:
        page.line("the demo makes namespaces and mounts: run it as root")
        return 1
    page.heading("This machine before")
    before = snapshot()
    page.line(f"{before.count()} facts noted: accounts, /etc, host name, mounts, cgroups, loop devices, network, homes")
    wanted = Wanted()
    around = Surroundings.make()
    with Lab(mode.image() | around.files(), hostname="localhost") as lab:
        went_well = first_boot(
            page, Scene(lab), around, wanted, mode, wants_shell=wants_shell, is_asked_for=bool(options.agent)
        )
        if options.agent and went_well:
            start_again(page, Scene(lab))
    if not options.agent:
        if went_well:
            demo_goal_states.show(page, wanted)
            demo_extensions.show(page)
        kill_each(page, wanted, went_well=went_well)
    page.heading("This machine after")
    compare(page, before)
    tell_packages(page)
    return page.verdict()


def kill_each(page: Page, wanted: Wanted, *, went_well: bool) -> None:
    """Each process once, in a VM of its own; not if nothing is right anyway."""
    page.heading("kill -9 of each process, one VM each")
    for victim in demo_kills.VICTIMS if went_well else ():
        demo_kills.kill_one(page, victim, wanted)
    if not went_well:
        page.check("kills", False, "not tried, because the first boot went wrong already")


def start_again(page: Page, scene: Scene) -> None:
    """What the next start makes of it."""
    page.heading("Its next start")
    for check in demo_modes.next_start(scene):
        page.check(check.what, check.right, check.found)


def first_boot(
    page: Page,
    scene: Scene,
    around: Surroundings,
    wanted: Wanted,
    mode: Mode,
    *,
    wants_shell: bool,
    is_asked_for: bool,
) -> bool:
    """Boot once, watch, look at what came of it; whether the host got its Ready. `is_asked_for`: the mode was named."""
    image = wanted.medium("udf")
    mode.prepare(scene.lab)
    page.heading("A VM with an emulated Azure host at 168.63.129.16")
    page.line(
        f"an overlay over / and namespaces of its own (mount, pid, net, uts, ipc, cgroup), process {scene.lab.init_pid}"
    )
    page.line(f"Provisioning.Agent is {mode.agent}")
    page.line(f"DVD: pure UDF, {len(image) // 1024} KiB, account {wanted.user}, host name {wanted.host_name}")
    around.start_host(scene, more=["--certificates=rsa"])
    scene.insert(image)
    page.heading("First boot (seconds since the agent's start)")
    agent = scene.start_agent()

    def tell(event: Event) -> None:
        page.line(f"{event.after_s:8.3f}  {event.what if event.is_fact else '. ' + event.what}")

    timeline = Timeline(scene, mode.facts(scene, wanted), tell)
    others = threading.Thread(target=mode.beside, args=(scene, wanted, page.line), daemon=True)
    others.start()
    ready = timeline.watch(lambda: scene.is_decided() or agent.poll() is not None, READY_WITHIN_S)
    others.join(READY_WITHIN_S)
    page.line(f"          . {timeline.verifications} verifiers seen, one or another before each worker got its work")
    ready = ready and scene.is_ready()
    page.check(f"Ready within {READY_WITHIN_S:g} s", ready, "" if ready else f"its log:\n{scene.log()}")
    show_processes(page, scene)
    page.heading("What the VM is like now, looked at from outside")
    for check in mode.judge_all(scene, wanted) if is_asked_for else mode.judge(scene, wanted):
        page.check(check.what, check.right, check.found)
    page.heading("What was changed in the overlay")
    for change in scene.lab.changed():
        bits, owner = (stat.filemode(change.mode), f"{change.uid}:{change.gid}") if change.mode else ("", "")
        page.line(f"{change.kind:8}  {bits:10}  {owner:11}  {change.path}")
    if wants_shell:
        leave_shell(page, scene.lab)
    end(page, scene, agent)
    return ready


def show_processes(page: Page, scene: Scene) -> None:
    """`ps` of an agent at rest: who has provisioned makes room for a fresh supervisor, and that one has to begin."""
    page.heading("agent-supervisor ps")
    try:
        until("the supervisor is steady, and no worker is at work", lambda: is_at_rest(scene), READY_WITHIN_S, 0.2)
    except WaitedInVain as vain:
        page.line(str(vain))
    shown = scene.lab.run([str(AGENT), "ps"])
    page.text(shown.stdout + shown.stderr)
    page.check("ps answers", shown.returncode == 0, f"status {shown.returncode}")
    page.check("ps: steady", "phase steady" in shown.stdout, shown.stdout.partition("\n")[0])


def is_at_rest(scene: Scene) -> bool:
    """Is the supervisor one that has read no medium, does it say that it is steady, and are its workers gone?"""
    asked = scene.lab.run([str(AGENT), "ps", "--json"])
    if asked.returncode or not scene.is_fresh():
        return False
    told = json.loads(asked.stdout)
    begun = told["overview"]["phase"] == "steady" and told["overview"]["incarnation"]
    return bool(begun) and len(told["processes"]) == len(("spawner", "supervisor"))


def end(page: Page, scene: Scene, agent: subprocess.Popen[bytes]) -> None:
    """End the agent as its unit would."""
    page.heading("Its end")
    page.check("SIGTERM ends it", scene.stop_agent(agent) == 0, f"status {agent.returncode}")
    left = [p for p in scene.lab.processes() if any("supervisor" in word for word in p.argv)]
    page.check("no process of it is left", not left, ", ".join(p.name for p in left) or "none")


def leave_shell(page: Page, lab: Lab) -> None:
    """An interactive shell in the lab; the demo goes on when it ends."""
    page.heading("A shell in the lab (its end goes on with the demo)")
    page.line(f"the agent is {AGENT}, its log {AGENT_LOG}, the host's record beside it")
    page.line("ask it: agent-supervisor ps, status --long, goal-state, certificates, firewall show (help has all)")
    page.line("(without systemd no extension runs in here: docs/extensions.md has the way to a VM where they do)")
    page.line(f"steer the host: cd {PROJECT}; .venv/bin/python -m tests.fabric.wire_control {CONTROL} COMMAND...")
    page.line(
        "(publish; fault any:status=503, which ps and the log tell of within seconds; clear; help names them all)"
    )
    environment = {"TERM": os.environ.get("TERM", "dumb"), "PATH": f"{AGENT.parent}:{PATH}"}
    shell = lab.popen(["bash"], env=environment, stdin=None, session=False)
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    shell.wait()
    signal.signal(signal.SIGINT, previous)


def compare(page: Page, before: HostState) -> None:
    """Is the machine as before?"""
    differences: list[str] = []

    def is_same() -> bool:
        differences[:] = before.differences(snapshot())
        return not differences

    try:
        until("the machine is as before", is_same, timeout_s=5.0, every_s=0.5)
    except WaitedInVain:
        for line in differences[:40]:
            page.line(line)
    page.check("as before", not differences, f"{len(differences)} of {before.count()} facts differ")


def tell_packages(page: Page) -> None:
    """What the set-up leaves on the machine."""
    noted = PROJECT / ".installed-packages"
    names = noted.read_text().split() if noted.exists() else []
    page.line(f"system packages that set-up installed: {' '.join(names) or 'none'}")
    listing = subprocess.run(
        [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "list", "--format=freeze"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    page.line(f"and .venv with: {' '.join(listing.stdout.split()) or 'nothing'}")


if __name__ == "__main__":
    started = time.monotonic()
    status = main()
    print(f"\n{time.monotonic() - started:.1f} s")
    raise SystemExit(status)
