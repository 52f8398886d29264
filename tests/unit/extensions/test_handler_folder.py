# SPDX-License-Identifier: Apache-2.0
"""The files that the agent writes for handlers: where and how, and where not, whatever a handler has put there."""

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from supervisor.extensions.files import HandlerFiles, Unwritten
from supervisor.goal_state.adopted import HandlerStatus

if TYPE_CHECKING:
    from collections.abc import Callable

NAME, VERSION = "Publisher.Type", "1.0"
FOLDER = f"{NAME}-{VERSION}"


def made(tmp_path: Path) -> HandlerFiles:
    (tmp_path / "lib" / FOLDER).mkdir(parents=True)
    (tmp_path / "log").mkdir()
    files = HandlerFiles(str(tmp_path / "lib"), str(tmp_path / "log" / "azure"), print)
    files.begin(NAME, VERSION)
    return files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_handler_finds_its_folders_and_where_they_are(tmp_path: Path) -> None:
    files = made(tmp_path)
    base, logs = tmp_path / "lib" / FOLDER, tmp_path / "log" / "azure" / NAME
    (told,) = json.loads((base / "HandlerEnvironment.json").read_text())
    assert told == {
        "name": NAME,
        "version": 1.0,
        "handlerEnvironment": {
            "logFolder": str(logs),
            "configFolder": str(base / "config"),
            "statusFolder": str(base / "status"),
            "heartbeatFile": str(base / "heartbeat.log"),
            "eventsFolder": str(logs / "events"),
            "eventsFolder_preview": str(logs / "events"),
        },
    }
    assert [mode(path) for path in (base / "config", base / "status", logs / "events")] == [0o700] * 3
    assert [mode(path) for path in (logs, logs.parent)] == [0o755] * 2
    # A folder that is there stays as somebody has made it.
    logs.chmod(0o750)
    files.begin(NAME, VERSION)
    assert mode(logs) == 0o750


def test_settings_and_states_are_roots_alone_and_replaced_as_a_whole(tmp_path: Path) -> None:
    files = made(tmp_path)
    config = tmp_path / "lib" / FOLDER / "config"
    files.write_settings(FOLDER, "", None, b"")
    files.write_settings(FOLDER, "one", 3, b"a")
    files.write_settings(FOLDER, "one", 3, b"b")
    files.write_state(FOLDER, "Enabled")
    files.write_state(FOLDER, "enabled", "one")
    files.write_state(FOLDER, "disabled", "two")
    files.write_told(FOLDER, HandlerStatus(NAME, VERSION, "Ready", 0, "text"), has_several=True)
    assert {path.name: path.read_bytes() for path in config.iterdir() if path.name != "HandlerStatus"} == {
        "0.settings": b"",
        "one.3.settings": b"b",
        "HandlerState": b"Enabled",
        "one.HandlerState": b"enabled",
        "two.HandlerState": b"disabled",
    }
    assert {mode(path) for path in config.iterdir()} == {0o600}
    assert json.loads((config / "HandlerStatus").read_text())["supports_multi_config"] is True
    assert (files.state(FOLDER), files.extensions(FOLDER)) == ("Enabled", ("one",))
    assert files.folders() == [(NAME, VERSION)]
    files.drop(FOLDER, "one")
    assert sorted(path.name for path in config.iterdir()) == ["0.settings", "HandlerState", "HandlerStatus"] + [
        "two.HandlerState"
    ]


def test_what_an_extension_has_said_is_not_overwritten_unless_it_must_be(tmp_path: Path) -> None:
    files = made(tmp_path)
    status = tmp_path / "lib" / FOLDER / "status" / "3.status"
    for content in (b"first", b"second"):
        files.write_status(FOLDER, "", 3, content, if_absent=True)
        assert status.read_bytes() == b"first"
    files.write_status(FOLDER, "", 3, b"third")
    assert status.read_bytes() == b"third"


@pytest.mark.parametrize("replaced", ["", "config", "status", "config/HandlerState", "config/.HandlerState.new"])
def test_a_link_in_the_way_leads_nowhere(tmp_path: Path, replaced: str) -> None:
    files = made(tmp_path)
    outside = tmp_path / "outside"
    (outside / "config").mkdir(parents=True)
    (outside / "status").mkdir()
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    at = tmp_path / "lib" / FOLDER / replaced
    is_file = "/" in replaced
    if at.exists():
        at.rename(tmp_path / "aside")
    at.symlink_to(victim if is_file else outside)
    writes: list[Callable[[], None]] = [
        lambda: files.write_state(FOLDER, "Enabled"),
        lambda: files.write_status(FOLDER, "", 3, b"text"),
        lambda: files.write_settings(FOLDER, "", 3, b"text"),
    ]
    for write in writes:
        try:
            write()
        except Unwritten as error:
            assert "is no folder, or a link" in str(error)  # noqa: PT017 - not each of them meets the link
            assert not is_file
    assert victim.read_text() == "untouched"
    assert sorted(path.name for path in outside.rglob("*")) == ["config", "status"]
    if is_file:
        assert files.state(FOLDER) == "Enabled"
        assert not (tmp_path / "lib" / FOLDER / "config" / "HandlerState").is_symlink()


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    files = made(tmp_path)
    state = tmp_path / "lib" / FOLDER / "config" / "HandlerState"
    state.mkdir()
    with pytest.raises(Unwritten, match=r"HandlerState can't be written: Is a directory"):
        files.write_state(FOLDER, "Enabled")
    state.rmdir()
    os.mkfifo(state)
    assert files.state(FOLDER) == ""
    (tmp_path / "lib" / FOLDER / "config" / "HandlerStatus").symlink_to("/etc/passwd")
    with pytest.raises(Unwritten, match="can't be entered"):
        files.write_state("Nobody.Here-1.0", "Enabled")
