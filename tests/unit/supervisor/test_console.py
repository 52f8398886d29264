# SPDX-License-Identifier: Apache-2.0
"""The console outlet: a file, a terminal, a FIFO; absent, slow, full and hung up. It never waits and never raises."""

import os
import pty
import select
import termios
import time
from pathlib import Path

import pytest

from supervisor.log import Log, Rate
from supervisor.outlets import ConsoleOutlet
from supervisor.redaction import Redactor
from tests.unit.supervisor.turned import HandClock

AT_ONCE_S = 0.5


def log_on(path: Path) -> Log:
    return Log(HandClock(), [ConsoleOutlet(path)], Redactor(), rate=Rate(burst=1000))


def fill(log: Log, lines: int = 90) -> None:
    """More than a small pipe or a terminal takes, within the time that nobody would notice."""
    began = time.monotonic()
    for number in range(lines):
        log.of("test").info(f"line {number} " + "x" * 900)
    assert time.monotonic() - began < AT_ONCE_S


def read_now(descriptor: int) -> bytes:
    """What is there to read, as long as it keeps coming."""
    content = b""
    while select.select([descriptor], [], [], 0.05)[0] and (part := os.read(descriptor, 65536)):
        content += part
    return content


def test_info_and_above_go_to_the_console_until_it_is_left(tmp_path: Path) -> None:
    console = tmp_path / "console"
    console.write_text("what the kernel said\n")
    log = log_on(console)
    log.verbose = True
    log.of("test").verbose("only for the log")
    log.of("test").info("begins")
    log.of("test").error("fails")
    log.show(["-----BEGIN-----", "as it is", "-----END-----"])
    log.leave_console()
    log.of("test").error("later")
    log.show(["later"])
    first, *rest = console.read_text().splitlines()
    assert first == "what the kernel said"
    assert rest == [
        "1970-01-01T00:16:40.000Z INFO test begins",
        "1970-01-01T00:16:40.000Z ERROR test fails",
        *("-----BEGIN-----", "as it is", "-----END-----"),
    ]


def test_what_is_shown_is_redacted_and_printable_as_the_log_is(tmp_path: Path) -> None:
    console = tmp_path / "console"
    console.touch()
    log = log_on(console)
    forget = log.redactor.register("c4n4ry")
    log.show(["ssh-rsa c4n4ry \x1b[2J\n-----END-----"])
    forget()
    assert console.read_text() == "ssh-rsa [redacted] \\x1b[2J\\n-----END-----\n"


def test_an_absent_console_loses_lines_and_tells_when_it_is_there(tmp_path: Path) -> None:
    console = tmp_path / "console"
    log = log_on(console)
    log.of("test").info("to nobody")
    log.of("test").info("to nobody")
    assert not console.exists()
    console.touch()
    log.of("test").info("to somebody")
    told, line = console.read_text().splitlines()
    assert told.endswith("WARNING test 2 lines were lost here: No such file or directory")
    assert line.endswith("INFO test to somebody")


def test_a_fifo_that_nobody_reads_holds_nobody_up(tmp_path: Path) -> None:
    console = tmp_path / "console"
    os.mkfifo(console)
    log = log_on(console)
    fill(log)  # nobody has it open
    reader = os.open(console, os.O_RDONLY | os.O_NONBLOCK)
    fill(log)  # somebody has, and does not read
    content = read_now(reader)
    assert b" 90 lines were lost here: No such device or address" in content
    fill(log, lines=1)
    assert b"lines were lost here: " in read_now(reader)
    os.close(reader)
    fill(log)  # the reader is gone
    log.leave_console()


def test_a_terminal_that_takes_nothing_holds_nobody_up(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    console = tmp_path / "console"
    console.symlink_to(os.ttyname(slave))
    log = log_on(console)
    log.of("test").info("first")
    assert read_now(master).endswith(b"INFO test first\r\n")
    termios.tcflow(slave, termios.TCOOFF)
    fill(log)
    began = time.monotonic()
    log.leave_console()
    assert time.monotonic() - began < AT_ONCE_S
    termios.tcflow(slave, termios.TCOON)
    os.close(slave)
    os.close(master)


def test_the_console_never_becomes_our_controlling_terminal(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    console = tmp_path / "console"
    console.symlink_to(os.ttyname(slave))
    child = os.fork()
    if child == 0:
        os.setsid()
        log_on(console).of("test").info("hello")
        try:
            os.close(os.open("/dev/tty", os.O_RDWR))
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert b"hello" in read_now(master)
    os.close(slave)
    os.close(master)


@pytest.mark.parametrize("kind", ["folder", "full"])
def test_what_is_no_console_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "folder" else Path("/dev/full")
    log = log_on(path)
    log.of("test").info("hello")
    log.show(["hello"])
    log.close()
