# SPDX-License-Identifier: Apache-2.0
"""`agent-supervisor log`: what it prints, of which records, and how it ends when there is nothing to read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.audit_log_entry import Entry
from supervisor.cli.main import main
from tests.fabric.lab import PROJECT
from tests.unit.audit_log.written import filled, writer

ENTRIES = (
    Entry("worker-start", "parser.0", "parser", 70, 60800, missing=("landlock",)),
    Entry("control", pid=9, uid=1000, request="restart", decision="refused", detail="parser.0"),
    Entry("commit", kind="account", request="CommitAccount", decision="done", detail="account: done \x1b[2J"),
)

AS_NOBODY = """
import os, sys
from supervisor.cli.main import main
os.setgroups([])
os.setresuid(65534, 65534, 65534)
sys.exit(main(["log", "verify", "--file", sys.argv[1]]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    audit = writer(tmp_path / "audit.log")
    for entry in ENTRIES:
        audit(entry)
    return tmp_path / "audit.log"


def shown(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert main(["log", "show", "--file", str(path), *options]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_line_a_record_with_what_matters(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(path, capsys)
    assert [line.split(maxsplit=2)[2] for line in lines] == [
        "log-begun",
        "worker-start parser.0 without landlock",
        "control uid 1000 pid 9 restart refused parser.0",
        "commit account CommitAccount done account: done \\x1b[2J",
    ]


def test_those_that_were_asked_for(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(shown(path, capsys, "-n", "2")) == 2
    assert shown(path, capsys, "-n", "0") == []
    assert [line.split()[2] for line in shown(path, capsys, "--kind", "account")] == ["commit"]
    assert shown(path, capsys, "--event", "violation") == []
    (told,) = map(json.loads, shown(path, capsys, "--json", "--event", "control"))
    assert (told["uid"], told["decision"], told["seq"]) == (1000, "refused", 3)


def test_what_is_not_shown_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path / "audit.log", 70)
    command = ["log", "show", "--file", str(tmp_path / "audit.log")]
    assert main(command) == 0
    said = capsys.readouterr()
    written = len((tmp_path / "audit.log").read_bytes().splitlines())
    assert len(said.out.splitlines()) == 50
    assert said.err == f"agent-supervisor: {written - 50} earlier ones are not shown; -n N shows more\n"
    for number, lines in (("5", 5), ("100", written)):
        assert main([*command, "-n", number]) == 0
        said = capsys.readouterr()
        assert (len(said.out.splitlines()), said.err) == (lines, "")


@pytest.mark.parametrize(
    ("event", "said"), [("violaton", "is violation meant?"), ("xyzzy", "there are log-begun, log-rotated, ")]
)
def test_an_event_that_is_none_is_refused(
    event: str, said: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", "show", "--file", str(path), "--event", event]) == 2
    assert capsys.readouterr().err.startswith(f"agent-supervisor: there is no event {event}; {said}")


def test_verify_in_words(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "verify", "--file", str(path)]) == 0
    assert capsys.readouterr().out.startswith("the audit log is as it was written: 4 records, 1 to 4; it is at 4:")
    path.write_bytes(path.read_bytes().replace(b"refused", b"refusal"))
    assert main(["log", "verify", "--file", str(path)]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"edited: {path}, line 3: record 3 is ")
    assert last.startswith("the audit log is NOT as it was written: findings: 1, in 4 records")


def test_without_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "verify", "--file", str(tmp_path / "audit.log")]) == 1
    assert capsys.readouterr().err == f"agent-supervisor: {tmp_path}/audit.log: there is no audit log\n"
    assert main(["log", "show", "--file", str(tmp_path / "state" / "audit.log")]) == 1
    told = f"agent-supervisor: {tmp_path}/state: there is no such folder, and no audit log in it\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("anchor", ["7", "x:y", f"7:{'0' * 63}"])
def test_an_anchor_that_is_none(anchor: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "verify", "--file", str(path), "--anchor", anchor]) == 2
    assert f"{anchor} is no anchor" in capsys.readouterr().err


@pytest.mark.root
def test_who_may_not_read_it(tmp_path: Path) -> None:
    filled(tmp_path / "state" / "audit.log", 1)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(tmp_path / "state" / "audit.log")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "can't be read: be root" in done.stderr) == (4, True), done.stderr
