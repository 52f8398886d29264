# SPDX-License-Identifier: Apache-2.0
"""The copies for systemd's journal, read from a socket in its place: all of them, in order, however slowly it reads."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.audit_log_entry import Entry
from supervisor.audit_log_mirror import MOST_WAITING, Mirror

ENTRY = Entry("violation", worker="parser.0", kind="parser", detail="broke a rule", missing=("landlock", "mdwe"))


class Timers:
    """What is to be done later, done when the test says so."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def later(self, _: float, action: Callable[[], None]) -> None:
        self.due.append(action)

    def run(self) -> None:
        due, self.due = self.due, []
        for action in due:
            action()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind(str(tmp_path / "socket"))
        reader.setblocking(False)
        yield reader


@contextmanager
def mirror_to(path: str, timers: Timers) -> Iterator[Mirror]:
    mirror = Mirror(timers.later, path)
    yield mirror
    if mirror._socket is not None:
        mirror._socket.close()


def told(journal: socket.socket) -> list[dict[str, str]]:
    """Every datagram that is there, as fields."""
    found: list[dict[str, str]] = []
    while True:
        try:
            text = journal.recv(65536).decode()
        except BlockingIOError:
            return found
        assert text.endswith("\n")
        found.append(dict(line.split("=", 1) for line in text.splitlines()))


def test_a_record_with_its_fields(journal: socket.socket) -> None:
    with mirror_to(journal.getsockname(), Timers()) as mirror:
        mirror.show(ENTRY, 7, "ab", urgent=True)
    assert told(journal) == [
        {
            "MESSAGE": "audit: violation parser.0 broke a rule",
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "agent-supervisor-audit",
            "AGENT_SUPERVISOR_EVENT": "violation",
            "AGENT_SUPERVISOR_WORKER": "parser.0",
            "AGENT_SUPERVISOR_KIND": "parser",
            "AGENT_SUPERVISOR_DETAIL": "broke a rule",
            "AGENT_SUPERVISOR_MISSING": "landlock,mdwe",
            "AGENT_SUPERVISOR_SEQ": "7",
            "AGENT_SUPERVISOR_HASH": "ab",
        }
    ]


def test_one_that_reads_slowly_gets_all_in_order(journal: socket.socket) -> None:
    timers = Timers()
    seen: list[str] = []
    with mirror_to(journal.getsockname(), timers) as mirror:
        for seq in range(1, MOST_WAITING):
            mirror.show(ENTRY, seq, "", urgent=False)
        assert len(timers.due) == 1
        while timers.due:
            seen += [one["AGENT_SUPERVISOR_SEQ"] for one in told(journal)]
            timers.run()
    seen += [one["AGENT_SUPERVISOR_SEQ"] for one in told(journal)]
    assert seen == [str(seq) for seq in range(1, MOST_WAITING)]


def test_at_the_end_what_waits_is_handed_over(journal: socket.socket) -> None:
    with mirror_to(journal.getsockname(), Timers()) as mirror, ThreadPoolExecutor(1) as reader:
        for seq in range(1, 101):
            mirror.show(ENTRY, seq, "", urgent=False)
        journal.settimeout(5)
        read = reader.submit(lambda: [journal.recv(65536) for _ in range(100)])
        mirror.finish()
        assert len(read.result(10)) == 100


def test_one_that_does_not_read_or_is_gone_costs_little(journal: socket.socket) -> None:
    timers = Timers()
    with mirror_to(journal.getsockname(), timers) as mirror:
        for seq in range(3 * MOST_WAITING):
            mirror.show(ENTRY, seq, "", urgent=False)
        assert (len(timers.due), len(mirror._waiting)) == (1, MOST_WAITING)
        journal.close()
        timers.run()
        assert (timers.due, len(mirror._waiting)) == ([], 0)
    with mirror_to("/nonexistent", timers) as mirror:
        mirror.show(ENTRY, 1, "", urgent=False)
