# SPDX-License-Identifier: Apache-2.0
"""`agent-supervisor extensions` as a real process against a real control socket, and the log that it prints."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from supervisor.cli.extensions import COLUMNS, Seen, lines
from supervisor.cli.main import main as command_line
from supervisor.cli.slice_usage import SliceUsage, path_of, slice_usage
from supervisor.extensions.shown import LastResult, Leftover, Shown, ShownExtension
from supervisor.verbs import EXTENSIONS, pack, unpack
from tests.unit.supervisor.serving import NOBODY, open_folder, serve

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "supervisor", "extensions"]
NOON = 1_790_000_000.0
SLICE = "azure-vmextensions-Publisher.Type.slice"
BUSY = ShownExtension(
    "Publisher.Type",
    "1.2.3",
    wanted="enabled",
    sequence_number=4,
    installed="1.2.0",
    state="Enabled",
    status="Installing",
    running="update",
    since=NOON - 75,
    last=LastResult("disable", 1010, "exit\n\tstatus 3\n", NOON - 80),
    handler_class="compat",
    thumbprint="ABCDEF0123456789ABCDEF0123456789ABCDEF01",
    slice=SLICE,
)
LEFT = Leftover("/lib/.A-1.gone", "x: Operation not permitted"), Leftover("/lib/.B-1.old")
BARE = ShownExtension("Publisher.Multi", "2.0", "one\x1b[2J", "disabled", status="Ready", settings_status="success")


def agent(*arguments: str, width: int = 200) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "COLUMNS": str(width)}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=30
    )


def test_each_has_a_row_and_what_a_cell_has_no_room_for_a_sentence() -> None:
    shown = Shown((BUSY, BARE), "no systemd runs here", "/var/log/azure", LEFT)
    seen = Seen(shown, {SLICE: SliceUsage((77, 78), 3 << 20, 1.25)}, True, NOON)
    title, busy, bare, *told = lines(seen, 250)
    assert title.split() == [name for name, _, _ in COLUMNS]
    assert re.split(r" {2,}", busy) == [
        "Publisher.Type", "1.2.3 (1.2.0 is here)", "enabled", "Enabled", "Installing", "update 1m15s",
        "disable 1010, 1m20s ago", "compat", "ABCDEF01", "2", "3.0M", "1.25s",
    ]  # fmt: skip
    assert re.split(r" {2,}", bare)[:6] == ["Publisher.Multi (one?[2J)", "2.0", "disabled", "-", "Ready, success", "-"]
    assert told == [
        "",
        "Publisher.Type: disable ended with 1010: exit status 3",
        "trouble: no systemd runs here",
        "left over: /lib/.A-1.gone, of a handler's folder that was removed or replaced: x: Operation not permitted",
        "left over: /lib/.B-1.old, of a handler's folder that was removed or replaced: it is tried with the next goal "
        "state",
        "The list is longer than one answer may be; the rest is left out.",
    ]
    assert max(map(len, lines(seen, 100))) <= 100
    assert lines(seen, 100)[0].split() == ["NAME", "VERSION", "STATUS", "RUNNING", "MEMORY"]
    assert lines(Seen(Shown(), {}, False, NOON), 80) == ["extensions: none"]
    assert unpack(pack(EXTENSIONS)) == (EXTENSIONS, "")


def test_what_an_extension_says_of_itself_is_told_unless_it_is_success() -> None:
    fails = replace(BARE, extension="", settings_status="error", settings_code=7, settings_message="no\n room")
    seen = Seen(Shown((fails, BARE)), {}, False, NOON)
    assert lines(seen, 200)[3:] == ["", "Publisher.Multi says: error, code 7: no room"]


def test_a_trouble_of_all_is_told_once() -> None:
    none = replace(BARE, message="not carried out: no systemd runs here")
    told = lines(Seen(Shown((none, none), "none is run: no systemd runs here"), {}, False, NOON), 200)
    assert told[3:] == ["", "trouble: none is run: no systemd runs here"]


def test_the_command_asks_and_prints_as_a_table_or_as_json(tmp_path: Path) -> None:
    with serve(tmp_path / "s") as served:
        gone = ShownExtension("Publisher.Gone", "1.0", wanted="uninstall")
        served.extensions = msgspec.to_builtins(Shown((BUSY, BARE, gone), logs="/var/log/azure"))
        table = agent("--socket", str(tmp_path / "s"))
        told = agent("--socket", str(tmp_path / "s"), "--json")
    assert (table.returncode, table.stderr) == (0, "")
    assert table.stdout.splitlines()[1].startswith("Publisher.Type")
    read = json.loads(told.stdout)
    assert (read["logs"], read["trouble"], read["cut"]) == ("/var/log/azure", "", False)
    assert [each["handler"] for each in read["extensions"]] == ["Publisher.Type", "Publisher.Multi", "Publisher.Gone"]
    assert [each["state"] for each in read["extensions"]] == ["Enabled", "", "removed"]
    assert read["extensions"][0]["last"]["code"] == 1010
    assert (read["extensions"][0]["pids"], read["extensions"][0]["memory_bytes"]) == ([], None)
    absent = agent("--socket", str(tmp_path / "absent"))
    silent = "agent-supervisor: the agent is not running; journalctl -u agent-supervisor may tell why\n"
    assert (absent.returncode, absent.stderr) == (3, silent)


def test_a_slice_lies_where_systemd_has_it() -> None:
    assert path_of(SLICE) == f"/azure.slice/azure-vmextensions.slice/{SLICE}"
    assert slice_usage("azure-vmextensions-Nobody.Here.slice") == SliceUsage()


@pytest.mark.parametrize("version", [1, 2])
def test_what_a_slice_uses_is_read_from_either_version(tmp_path: Path, version: int) -> None:
    group = tmp_path / "cgroup" / path_of(SLICE)[1:]
    inner = group / "one.service"
    inner.mkdir(parents=True)
    (group / "cgroup.procs").write_text("")
    (inner / "cgroup.procs").write_text("12\n7\n")
    proc = tmp_path / "self"
    proc.mkdir()
    if version == 2:
        written = {
            "memory.current": "5000",
            "memory.stat": "anon 1\ninactive_file 1000\n",
            "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
        }
        (proc / "cgroup").write_text("0::/user.slice/mine\n")
        mount = "cgroup2 none rw"
    else:
        written = {
            "memory.usage_in_bytes": "5000",
            "memory.stat": "cache 1\ntotal_inactive_file 1000\n",
            "cpuacct.usage": "2500000000",
        }
        (proc / "cgroup").write_text("4:memory,cpuacct:/user.slice\n1:name=systemd:/user.slice\n")
        mount = "cgroup none rw,memory,cpuacct"
    for name, content in written.items():
        (group / name).write_text(f"{content}\n")
    (proc / "mountinfo").write_text(f"30 24 0:26 / {tmp_path}/cgroup rw,nosuid - {mount}\n")
    assert slice_usage(SLICE, str(tmp_path)) == SliceUsage((7, 12), 4000, 2.5)


def logs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "waagent.conf").write_text(f"Extension.LogDir={folder}/azure\n")
    return agent("logs", *arguments, "--config", str(folder / "waagent.conf"))


def test_a_handlers_log_is_printed_without_secrets_and_without_what_steers_a_terminal(tmp_path: Path) -> None:
    own = tmp_path / "azure" / "Publisher.Type"
    own.mkdir(parents=True)
    token = "https://store.example/a.sh?sv=2018-03-28&sig=V2l0aCBzZWNyZXQ%3D"
    (own / "CommandExecution.log").write_bytes(f"first\n\tfetched {token}\n\x1b[2Jlast \xff\n".encode("latin-1"))
    (own / "CommandExecution_one.log").write_text("of one\n")
    done = logs(tmp_path, "Publisher.Type")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout == "first\n    fetched https://store.example/a.sh?[redacted]\n?[2Jlast \N{REPLACEMENT CHARACTER}\n"
    )
    assert logs(tmp_path, "Publisher.Type", "-n", "1").stdout == "?[2Jlast \N{REPLACEMENT CHARACTER}\n"
    assert logs(tmp_path, "Publisher.Type", "--extension", "one").stdout == "of one\n"


def test_a_log_is_text_and_whoever_wants_another_form_is_told(tmp_path: Path) -> None:
    done = agent("--json", "logs", "Publisher.Type", "--config", str(tmp_path / "absent"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("extensions logs takes no --json\n")


def test_settings_that_can_not_be_used_end_it_as_they_do_other_commands(tmp_path: Path) -> None:
    done = agent("logs", "Publisher.Type", "--config", str(tmp_path / "absent"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no such file" in done.stderr


@pytest.mark.root
@pytest.mark.parametrize("shut", ["waagent.conf", "azure", "azure/A.B", "azure/A.B/CommandExecution.log"])
def test_whoever_may_not_read_it_is_told_so_in_one_way(shut: str) -> None:
    with open_folder() as folder:
        (folder / "azure/A.B").mkdir(parents=True)
        (folder / "azure/A.B/CommandExecution.log").touch()
        (folder / "waagent.conf").write_text(f"Extension.LogDir={folder}/azure\n")
        (folder / shut).chmod(0)
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os._exit(command_line(["extensions", "logs", "A.B", "--config", str(folder / "waagent.conf")]))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4


def test_no_link_and_nothing_but_a_file_is_followed_to_a_log(tmp_path: Path) -> None:
    folder = tmp_path / "azure"
    secret = tmp_path / "secret" / "CommandExecution.log"
    secret.parent.mkdir()
    secret.write_text("root's alone\n")
    for name in ("A.linked", "A.piped", "A.twice"):
        (folder / name).mkdir(parents=True)
    (folder / "A.linked" / "CommandExecution.log").symlink_to(secret)
    os.mkfifo(folder / "A.piped" / "CommandExecution.log")
    os.link(secret, folder / "A.twice" / "CommandExecution.log")
    (folder / "A.elsewhere").symlink_to(secret.parent)
    for name in ("A.linked", "A.piped", "A.twice", "A.elsewhere"):
        done = logs(tmp_path, name)
        assert (done.returncode, done.stdout) == (1, ""), name
        assert "is not printed: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["Nobody.Here"], 1, "no command of Nobody.Here has run"),
        (["Nobody.Here"], 1, "; commands have run of A.Other, Publisher.Several"),
        (["Publisher.Type"], 1, "no command of Publisher.Type has run, there is no "),
        (["Publisher.Several"], 1, "; those of its extensions have logs (--extension NAME): one, two"),
        (["Publisher.Several", "--extension", "three"], 1, "; logs there are: one, two"),
        (["A.Other", "--extension", "one"], 1, "; logs there are: one without --extension"),
        (["A.Other", "-n", "0"], 2, "argument -n: '0' is no number of lines"),
        (["A.Other", "-n", "-3"], 2, "argument -n: '-3' is no number of lines"),
        (["../secret"], 2, "is no handler's name"),
        (["Publisher.Type", "--extension", "../x"], 2, "can't be an extension's name"),
    ],
)
def test_what_there_is_no_log_of_is_said(tmp_path: Path, arguments: list[str], status: int, complaint: str) -> None:
    for name in ("Publisher.Type", "A.Other", "Publisher.Several"):
        (tmp_path / "azure" / name).mkdir(parents=True)
    for file in (
        "A.Other/CommandExecution",
        "Publisher.Several/CommandExecution_one",
        "Publisher.Several/CommandExecution_two",
    ):
        (tmp_path / "azure" / f"{file}.log").touch()
    done: Any = logs(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert complaint in done.stderr
