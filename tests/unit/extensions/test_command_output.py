# SPDX-License-Identifier: Apache-2.0
"""What is kept of a command's output, and its log: whole as long as they fit, then their ends."""

import os
from pathlib import Path

import pytest

from supervisor.jail import handler_output
from supervisor.jail.handler_folder import MOST_OUTPUT
from supervisor.jail.handler_order import HandlerOrder
from supervisor.jail.handler_output import MOST_LOG_BYTES, Stream, combined

ROOM = MOST_OUTPUT - len(combined("", ""))


@pytest.mark.parametrize(
    ("stdout", "stderr", "due"),
    [
        ("a", "b", (1, 1)),
        ("a" * 3200, "", (ROOM, 0)),
        ("", "b" * 3200, (0, ROOM)),
        ("a" * 3200, "b" * 100, (ROOM - 100, 100)),
        ("a" * 100, "b" * 3200, (100, ROOM - 100)),
        ("a" * 3200, "b" * 3200, (ROOM // 2, ROOM - ROOM // 2)),
    ],
)
def test_both_streams_share_what_there_is(stdout: str, stderr: str, due: tuple[int, int]) -> None:
    text = combined(stdout, stderr)
    assert len(text) <= MOST_OUTPUT
    head, _, tail = text.removeprefix("[stdout]\n").partition("\n\n[stderr]\n")
    assert (len(head), len(tail)) == due


def test_of_what_is_shared_the_ends_are_kept() -> None:
    text = combined("begin" + "a" * 3200 + "end", "begin" + "b" * 3200 + "end")
    assert "begin" not in text
    assert text.count("end") == 2


def test_a_stream_keeps_its_start_whatever_it_is_encoded_in(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    stream = Stream(folder)
    os.write(stream.descriptor, "\N{SNOWMAN}".encode() * 1000 + b"\xff" * 1000 + b"z" * 100_000)
    assert stream.text()[:2001] == "\N{SNOWMAN}" * 1000 + "\N{REPLACEMENT CHARACTER}" * 1000 + "z"
    assert len(stream.text()) == MOST_OUTPUT
    before = os.fstat(stream.descriptor).st_blocks
    assert stream.cut()
    assert not stream.cut()
    assert os.fstat(stream.descriptor).st_blocks < before
    os.write(stream.descriptor, b"more")
    assert stream.cut()
    assert list(tmp_path.iterdir()) == []
    os.close(stream.descriptor)
    os.close(folder)


def order(tmp_path: Path, extension: str = "") -> HandlerOrder:
    base = str(tmp_path)
    return HandlerOrder("A.B", "1.0", extension, "enable", "x", 1, (), base, (), "", base, f"{base}/log", ())


@pytest.mark.parametrize(
    ("extension", "name"),
    [("", "CommandExecution.log"), ("A.B", "CommandExecution.log"), ("x", "CommandExecution_x.log")],
)
def test_a_log_loses_its_head_and_keeps_its_folders_mode(tmp_path: Path, extension: str, name: str) -> None:
    handler_output.log(order(tmp_path, extension), "begin\n")
    folder = tmp_path / "log/A.B"
    folder.chmod(0o750)
    with (folder / name).open("ab") as file:
        file.truncate(MOST_LOG_BYTES)
    handler_output.log(order(tmp_path, extension), "end\n")
    content = (folder / name).read_bytes()
    assert (len(content), content[-4:], content[:3]) == (MOST_LOG_BYTES, b"end\n", b"n\n\0")
    assert [each.name for each in folder.iterdir()] == [name]
    assert folder.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("trap", ["link", "hard link", "fifo", "folder's link"])
def test_nothing_but_a_log_is_written_to(tmp_path: Path, trap: str) -> None:
    handler_output.log(order(tmp_path), "begin\n")
    log, other = tmp_path / "log/A.B/CommandExecution.log", tmp_path / "other"
    log.unlink()
    other.mkdir()
    (other / "CommandExecution.log").write_bytes(b"kept")
    if trap == "link":
        log.symlink_to(other / "CommandExecution.log")
    elif trap == "hard link":
        log.hardlink_to(other / "CommandExecution.log")
    elif trap == "fifo":
        os.mkfifo(log)
    else:
        log.parent.rmdir()
        log.parent.symlink_to(other)
    with pytest.raises(OSError, match=r"symbolic|no file|Not a directory"):
        handler_output.log(order(tmp_path), "end\n")
    assert (other / "CommandExecution.log").read_bytes() == b"kept"
