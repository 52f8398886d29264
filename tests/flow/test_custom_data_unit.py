# SPDX-License-Identifier: Apache-2.0
"""Custom data run under systemd: a unit by itself, full root, which outlives whoever of us is killed meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from supervisor.layout import Layout
from tests.fabric.custom_data import CONFIG, ENDLESS, OUTPUT_WORD, STATUS, TELLING, WAITING, Told, go, sleepers
from tests.fabric.outcome import judge
from tests.fabric.scene import Scene, Wanted, image_files
from tests.fabric.systemd_lab import UNIT, SystemdLab
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

OURS = "agent-supervisor-custom-data.service"
LOG = "/var/log/waagent.log"
MOUNTS = b"mkdir -p /mnt/data\nmount -t tmpfs data /mnt/data\n"


@contextmanager
def provisioned(content: bytes, config: bytes = CONFIG) -> Iterator[tuple[SystemdLab, Scene, Wanted]]:
    """systemd up, mounts shared as on any machine of its, the agent started with `content` on the medium."""
    wanted = Wanted(custom_data=content)
    with SystemdLab(image_files(config)) as lab:
        # systemd does so on a machine; in what it takes for a container it leaves that to whoever made it.
        lab.output("mount", "--make-rshared", "/")
        scene = Scene(lab, f"system.slice/{UNIT}")
        scene.start_host()
        scene.insert(wanted.medium())
        started = lab.systemctl("start", "--no-block", UNIT)
        assert started.returncode == 0, started.stderr
        try:
            yield lab, scene, wanted
        except AssertionError as error:
            error.add_note(lab.journal(UNIT) + lab.journal(OURS))
            raise


def said(lab: SystemdLab, text: str) -> list[str]:
    return [line for line in lab.read(LOG).decode().splitlines() if text in line]


def capabilities_of_init(lab: SystemdLab) -> str:
    status = lab.read("/proc/1/status").decode()
    return next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd"))


def test_it_runs_once_as_full_root_in_a_unit_of_its_own() -> None:
    content = TELLING.replace(b"sleep 1000", MOUNTS + b"sleep 1000")
    with provisioned(content) as (lab, scene, wanted):
        scene.wait_until_ready()
        assert [check for check in judge(scene, wanted) if not check.right] == []
        told = Told(lab)
        assert told.status("Uid") == told.status("Gid") == "0 0 0 0"
        assert told.status("CapEff") == told.status("CapBnd") == capabilities_of_init(lab)
        assert (told.status("NoNewPrivs"), told.status("Seccomp")) == ("0", "0")
        assert {word.split("=")[0] for word in told["environment"].split()} == {"HOME", "LANG", "PATH", "PWD"}
        assert (told["folder"], told["umask"], told["folders"]) == ("/\n", "0022\n", "")
        opened = {link.split(":")[0] for link in told.descriptors()}
        # 1 and 2 are the journal's.
        assert opened == {"/dev/null", "/var/lib/waagent/CustomData", "socket"}
        assert all(line.endswith((f"/system.slice/{OURS}", ":/")) for line in told["groups"].splitlines())
        assert any(line.endswith(OURS) for line in told["groups"].splitlines())
        assert not told["shadow"].startswith("root:*LOCK*")
        # It may change the machine: what it mounts is mounted, what it started lives on.
        assert lab.output("findmnt", "-no", "SOURCE", "/mnt/data").strip() == "data"
        assert len(sleepers(lab)) == 1
        assert lab.output("ls", "-A", "/var/lib/agent-supervisor")
        shown = lab.show(OURS, "ActiveState", "SubState", "Result", "ExecMainStatus")
        assert shown == {"ActiveState": "active", "SubState": "exited", "Result": "success", "ExecMainStatus": "3"}
        (line,) = said(lab, "custom data run: done")
        assert f"exit status {STATUS}, which is ignored; its output: journalctl -u {OURS}" in line
        assert OUTPUT_WORD in lab.journal(OURS)
        assert OUTPUT_WORD not in lab.journal(UNIT)
        assert told.count("runs") == 1


def test_a_new_provisioning_runs_it_anew_and_ends_what_the_last_one_left() -> None:
    with provisioned(TELLING) as (lab, scene, _):
        scene.wait_until_ready()
        told, left = Told(lab), sleepers(lab)
        assert (told.count("runs"), len(left)) == (1, 1)
        lab.systemctl("restart", UNIT)
        until("it knows that all is done", lambda: "earlier start" in lab.show(UNIT, "StatusText")["StatusText"])
        assert (told.count("runs"), sleepers(lab)) == (1, left)
        lab.systemctl("stop", UNIT)
        lab.output("rm", "/var/lib/waagent/provisioned")
        assert lab.systemctl("start", "--no-block", UNIT).returncode == 0
        until("Ready again", lambda: [report.health.state for report in scene.reports()].count("Ready") == 2, 20)
        assert told.count("runs") == 2
        assert not set(left) & set(sleepers(lab))


def test_systemd_ends_it_when_its_time_is_over() -> None:
    with provisioned(ENDLESS, CONFIG + b"Provisioning.CustomDataTimeout=1\n") as (lab, scene, _):
        scene.wait_until_ready()
        assert said(lab, "still ran after 1 s (Provisioning.CustomDataTimeout)")
        assert lab.show(OURS, "Result") == {"Result": "timeout"}
        assert not sleepers(lab)
        assert Told(lab).count("runs") == 1


def victims(lab: SystemdLab) -> dict[str, list[int]]:
    """Our processes of each sort, as the lab numbers them; committer and companion only while both live."""
    spawner = int(lab.show(UNIT, "MainPID")["MainPID"])
    found: dict[str, list[int]] = {"spawner": [spawner], "supervisor": [], "committer": [], "companion": []}
    workers: list[int] = []
    for process in lab.processes():
        if process.parent == spawner:
            (found["supervisor"] if "supervisor.main" in process.argv else workers).append(process.pid)
    if len(workers) == 2:
        # The companion is forked first.
        found["companion"], found["committer"] = ([pid] for pid in sorted(workers))
    return found


@pytest.mark.parametrize("victim", ["supervisor", "spawner", "committer", "companion"])
def test_whoever_is_killed_meanwhile_it_runs_on_and_is_waited_for(victim: str) -> None:
    with provisioned(WAITING) as (lab, scene, wanted):
        told = Told(lab)
        until("it runs", lambda: told.count("shadow"))
        until("it is waited for", lambda: victims(lab)["committer"])
        (pid,) = victims(lab)[victim]
        lab.kill(pid)
        until("somebody waits for it again", lambda: pid not in (now := victims(lab)["committer"]) and now)
        until("the record of it", lambda: lab.read("/var/lib/agent-supervisor/custom-data").startswith(b"started"))
        assert not scene.is_ready()
        go(lab)
        scene.wait_until_ready()
        assert [check for check in judge(scene, wanted) if not check.right] == []
        assert (told.count("runs"), told.count("ends")) == (1, 1)
        assert int(told["pid"]) == int(lab.show(OURS, "ExecMainPID")["ExecMainPID"])
        assert said(lab, f"exit status {STATUS}, which is ignored")
        assert [report.health.state for report in scene.reports()].count("Ready") == 1


@pytest.mark.parametrize("journal", ["kept", "damaged"])
def test_after_the_machine_was_started_anew_it_is_not_run_again(journal: str) -> None:
    with provisioned(WAITING) as (lab, scene, _):
        told = Told(lab)
        until("it runs", lambda: told.count("shadow"))
        until("the record of it", lambda: lab.read("/var/lib/agent-supervisor/custom-data").startswith(b"started"))
        lab.systemctl("stop", UNIT)
        # As the next boot finds it: no such unit, and the record has the id of a boot that is over.
        lab.systemctl("stop", OURS)
        record = lab.path("/var/lib/agent-supervisor/custom-data")
        record.write_text("started 0b6e9d3c-2f51-4c0e-8a7d-5e4f3c2b1a09\n")
        if journal == "damaged":
            lab.path(Layout().journal).write_bytes(b"\xff" * 64)
        assert lab.systemctl("start", UNIT).returncode == 0
        scene.wait_until_ready()
        assert said(lab, "not run again: the machine was started anew while it ran")
        assert (told.count("runs"), told.count("ends")) == (1, 0)
