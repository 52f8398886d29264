# SPDX-License-Identifier: Apache-2.0
"""The command line, as a real process against a real control socket."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import tomllib
from pathlib import Path

import msgspec
import pytest

from supervisor.cli.main import main as command_line
from supervisor.cli.measure import Usage
from supervisor.cli.table import duration, lines
from supervisor.status import HANDLER, ProcessRow, Status
from supervisor.version import VERSION
from tests.fabric.waiting import until
from tests.unit.supervisor.serving import NOBODY, Served, open_folder, serve, snapshot

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "supervisor"]
PLAIN = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def agent(*arguments: str, width: int = 100) -> subprocess.CompletedProcess[str]:
    environment = {**PLAIN, "COLUMNS": str(width)}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=30
    )


def test_without_an_agent_the_exit_status_says_so(tmp_path: Path) -> None:
    done = agent("ps", "--socket", str(tmp_path / "absent"))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "agent-supervisor: the agent is not running; journalctl -u agent-supervisor may tell why\n"
    # A socket file that a killed agent left behind.
    with serve(tmp_path / "s"):
        pass
    assert (tmp_path / "s").exists()
    assert agent("ps", "--watch", "--socket", str(tmp_path / "s")).returncode == 3


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o600, 0o666], ids=["refused by the file", "refused by the agent"])
def test_without_permission_the_exit_status_says_so(mode: int) -> None:
    with open_folder() as folder:
        served = Served(folder / "s", None, 1, {})
        served.path.chmod(mode)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            # Not exec'd: the interpreter of a virtual environment may lie where this user can't go.
            os.dup2(writer, 2)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os._exit(command_line(["ps", "--socket", str(served.path)]))
        os.close(writer)
        while mode == 0o666 and served.server.refused == 0:
            served.loop.turn()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
        assert b"no permission" in os.read(reader, 4096)
        os.close(reader)
        served.server.close()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["ps", "--x"],
        ["help", "nonsense"],
        ["help", "policy", "nonsense"],
        ["run", "x"],
        ["run", "--config"],
        ["run", "--config="],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = agent(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: agent-supervisor" in done.stderr


@pytest.mark.parametrize("command", ["ps", "goal-state", "policy show", "extensions"])
def test_a_word_that_a_command_does_not_know_is_told_with_its_own_usage(command: str) -> None:
    done = agent(*command.split(), "--nonsense=x")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"usage: agent-supervisor {command} [" in done.stderr
    assert "--nonsense" in done.stderr


@pytest.mark.parametrize("width", [80, 100, 120])
def test_ps_fits_the_terminal_and_measures(tmp_path: Path, width: int) -> None:
    with serve(tmp_path / "s") as served:
        done = agent("ps", "--socket", str(served.path), width=width)
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout.splitlines()
    assert max(map(len, shown)) <= width
    assert shown[0] == "agent-supervisor 0.1.0, phase steady, up 1h01m"
    assert "confinement: reduced (without landlock)" in shown
    (head,) = [line for line in shown if line.startswith("NAME")]
    (own,) = [line for line in shown if line.startswith("supervisor ")]
    assert {"PID", "UID", "STATE", "PSS", "CAPABILITIES"} <= set(head.split())
    assert str(os.getpid()) in own.split()
    assert "kill" in own.split()
    assert any(cell.endswith("M") and float(cell[:-1]) > 5 for cell in own.split())
    assert "\x1b" not in done.stdout
    assert "parser.1: last exit: killed by ?[2J SIGSYS" in shown


def test_ps_json_has_everything_and_the_measurements(tmp_path: Path) -> None:
    with serve(tmp_path / "s", rows=4) as served:
        data = json.loads(agent("ps", "--json", "--socket", str(served.path)).stdout)
    assert data["overview"]["incarnation"] == "3"
    assert data["cut"] is False
    own, other, *_ = data["processes"]
    assert own["rss_bytes"] > own["pss_bytes"] // 2 > 1 << 20
    assert own["cpu_s"] > 0
    assert own["capabilities"] == ["kill"]
    assert other["rss_bytes"] is None
    assert len(data["processes"]) == 4


def test_a_cut_answer_says_so(tmp_path: Path) -> None:
    with serve(tmp_path / "s", rows=3000) as served:
        assert "the rest is left out" in agent("ps", "--socket", str(served.path)).stdout


def test_a_reader_that_leaves_ends_watching_without_a_word(tmp_path: Path) -> None:
    with (
        serve(tmp_path / "s") as served,
        subprocess.Popen(
            [*COMMAND, "ps", "--watch", "--json", "--socket", str(served.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=PLAIN,
        ) as watching,
    ):
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert json.loads(watching.stdout.readline())["overview"]["phase"] == "steady"
        watching.stdout.close()
        assert watching.wait(30) == -signal.SIGPIPE
        assert watching.stderr.read() == b""


def test_watching_on_a_terminal_redraws_in_place_and_gives_the_cursor_back(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 20, 90, 0, 0))
    seen = b""
    with serve(tmp_path / "s") as served:
        command = [*COMMAND, "ps", "--watch", "--socket", str(served.path)]
        with subprocess.Popen(command, stdout=slave, stderr=slave, stdin=slave, cwd=ROOT, env=PLAIN) as watching:
            os.close(slave)
            while seen.count(b"\x1b[J") < 2 and select.select([master], [], [], 30)[0]:
                seen += os.read(master, 65536)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(30) == 0
        if select.select([master], [], [], 5)[0]:
            seen += os.read(master, 65536)
    os.close(master)
    assert seen.startswith(b"\x1b[?25l\x1b[2J\x1b[H")
    assert seen.count(b"\x1b[2J") == 1
    assert seen.endswith(b"\x1b[?25h")
    assert b"supervisor" in seen.split(b"\x1b[J")[1]
    frame = seen.split(b"\x1b[H")[1].split(b"\x1b[J")[0].replace(b"\x1b[K", b"")
    assert frame.count(b"\n") < 20
    assert max(map(len, frame.splitlines())) <= 90


def test_version_tells_of_both_and_needs_no_agent(tmp_path: Path) -> None:
    with serve(tmp_path / "s") as served:
        done = agent("version", "--socket", str(served.path))
    assert done.returncode == 0
    first, second, third = done.stdout.splitlines()
    assert first.startswith(f"agent-supervisor {VERSION} on ")
    assert second.startswith("Python: 3.")
    assert third == "Running agent: 0.1.0"
    assert agent("version", "--socket", str(tmp_path / "absent")).stdout.endswith("Running agent: none\n")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_help_names_every_command_and_exit_status() -> None:
    done = agent("help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("run", "ps", "status", "version", "help", "3 the agent is not running"))
    assert "--watch" in agent("help", "ps").stdout
    assert "2 done, but something" in agent("help", "status").stdout
    assert "--config FILE" in agent("run", "--help").stdout
    assert "usage: agent-supervisor policy lint [" in agent("help", "policy", "lint").stdout
    assert "usage: agent-supervisor extensions logs [" in agent("help", "extensions", "logs").stdout


def test_run_never_loads_what_only_the_commands_need() -> None:
    code = "from supervisor.__main__ import main; main(['run', 'x']); import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert not {"argparse", "psutil", "shutil", "supervisor.cli"} & loaded


STATES = {
    "not started": (Status(), 0),
    "running": (Status("running", "account"), 0),
    "done": (Status("done", "done", ready=True), 0),
    "done, not all of it": (Status("done", "done", troubles=("Ready: HTTP status 500",)), 2),
    "failed": (Status("error", "failed: no \x1b[2J", error="no \x1b[2J", changed=False, next="later"), 1),
    "somebody else's": (Status("disabled", "cloud-init does", agent="nobody"), 0),
}


@pytest.mark.parametrize("state", STATES)
def test_status_tells_by_its_exit_status(tmp_path: Path, state: str) -> None:
    status, expected = STATES[state]
    with serve(tmp_path / "s") as served:
        served.status = status
        short = agent("status", "--socket", str(served.path))
        told = agent("status", "--json", "--socket", str(served.path))
    assert (short.returncode, short.stdout, short.stderr) == (expected, f"status: {status.status}\n", "")
    assert told.returncode == expected
    assert msgspec.json.decode(told.stdout, type=Status) == status


def test_status_tells_all_of_a_failure(tmp_path: Path) -> None:
    with serve(tmp_path / "s") as served:
        served.status = msgspec.structs.replace(STATES["failed"][0], since=1.7e9, troubles=("transport key: no",))
        shown = agent("status", "--long", "--socket", str(served.path)).stdout
    assert shown.splitlines() == [
        "status: error",
        "since: 2023-11-14 22:13:20 UTC",
        "error: no ?[2J",
        "changed: nothing was changed",
        "next: later",
        "missing: transport key: no",
        "ready: not accepted by the host",
        "provisioned by: agent-supervisor",
    ]


def test_status_of_an_agent_that_does_not_run(tmp_path: Path) -> None:
    done = agent("status", "--socket", str(tmp_path / "absent"))
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "agent-supervisor: the agent is not running\n")


@pytest.mark.parametrize("on_terminal", [False, True])
def test_waiting_begins_before_the_agent_and_outlives_its_restarts(tmp_path: Path, on_terminal: bool) -> None:
    master, slave = pty.openpty()
    output = slave if on_terminal else subprocess.PIPE
    command = [*COMMAND, "status", "--wait", "--socket", str(tmp_path / "s")]
    with subprocess.Popen(command, stdout=output, cwd=ROOT, env=PLAIN) as waiting:
        os.close(slave)
        for _ in range(2):
            with serve(tmp_path / "s") as served:
                served.status = Status("running", "account")
                until("two looks", lambda server=served.server: server.served >= 2)  # type: ignore[misc]
                assert waiting.poll() is None
        with serve(tmp_path / "s") as served:
            served.status = STATES["failed"][0]
            assert waiting.wait(30) == 1
        shown = os.read(master, 4096) if on_terminal else (waiting.stdout.read() if waiting.stdout else b"")
    os.close(master)
    assert shown.lstrip(b".") == (b"\r\nstatus: error\r\n" if on_terminal else b"status: error\n")
    assert shown.startswith(b".") == on_terminal


def test_watching_an_agent_that_ends_says_that_it_does_not_run(tmp_path: Path) -> None:
    command = [*COMMAND, "ps", "--watch", "--json", "--socket", str(tmp_path / "s")]
    with (
        serve(tmp_path / "s"),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=PLAIN) as watching,
    ):
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline().startswith(b"{")
        (tmp_path / "s").unlink()
        assert watching.stderr.readline() == b"agent-supervisor: the agent is not running\n"
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0


def test_durations() -> None:
    assert [duration(s) for s in (0, 59.9, 60, 3599, 3600, 86399, 90000, -5)] == [
        *("0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d01h", "0s")
    ]


def test_a_handler_without_a_process_has_nothing_that_only_a_process_has() -> None:
    from msgspec.structs import replace

    plain = snapshot(1)
    row = ProcessRow("Publisher.Type", HANDLER, 0, 0, "waiting", 3.0, cgroup="azure-vmextensions-Publisher.Type.slice")
    shown = lines(replace(plain, processes=(row,)), {}, 200)[-1]
    assert shown.split() == ["Publisher.Type", "-", "-", "waiting", "3s", "0", "-", "-", "-", "-", "-", "-"]


def test_many_capabilities_are_counted_and_long_texts_cut() -> None:
    from msgspec.structs import replace

    plain = snapshot(1)
    row = replace(plain.processes[0], capabilities=tuple(f"capability_{n}" for n in range(30)), name="n" * 300)
    shown = lines(replace(plain, processes=(row,)), {row.name: Usage()}, 60)
    assert max(map(len, shown)) <= 80
    assert any("30 capabilities" in line for line in lines(replace(plain, processes=(row,)), {}, 200))
