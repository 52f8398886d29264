# SPDX-License-Identifier: Apache-2.0
"""A worker as the supervisor sees it, over real sockets: its messages, its last words, its violations, its log."""

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.channel import PacketChannel
from ipc.codec import encode
from ipc.descriptors import packet_pair, sealed_memfd
from ipc.messages import Committed, Versions, WorkerReady
from ipc.records import Event, Happened
from policy.profile import Request
from supervisor.clock import SystemClock
from supervisor.dispatch import Table
from supervisor.exits import exit_text
from supervisor.loop import Loop, TimedOut
from supervisor.worker import LOG_BYTES_A_WORKER, LogPipe, Worker, WorkerDied, WorkerViolation
from tests.jail.profiles import profile
from tests.unit.supervisor.turned import run, turn_until

POLICY = profile(requests=(Request(message="Committed", phase="boot", why="what the test sends"),))
DONE = Committed((), "")


class Bench:
    """A worker of which the test is the process: `them` is its end."""

    def __init__(self) -> None:
        ours, theirs = packet_pair()
        self.loop = Loop(SystemClock())
        self.worker = Worker(self.loop, Table([POLICY]), POLICY, 0, 1, PacketChannel(ours))
        self.socket = theirs
        self.them = PacketChannel(theirs)

    def ends(self, status: int) -> None:
        self.them.close()
        self.worker.exited.fulfil(Event(Happened.EXITED, 1, status=status))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.worker.release()
    bench.them.close()


def test_messages_come_in_order(bench: Bench) -> None:
    bench.them.send(WorkerReady())
    bench.them.send(DONE)
    assert [run(bench.loop, bench.worker.receive(5))[0] for _ in range(2)] == [WorkerReady(), DONE]


def test_silence_ends_with_the_time_given(bench: Bench) -> None:
    with pytest.raises(TimedOut):
        run(bench.loop, bench.worker.receive(0.02))


def test_its_last_words_are_heard_before_its_death(bench: Bench) -> None:
    bench.them.send(WorkerReady())
    bench.ends(0)
    assert run(bench.loop, bench.worker.receive(5))[0] == WorkerReady()
    with pytest.raises(WorkerDied, match=r"probe\.0 ended with 0"):
        run(bench.loop, bench.worker.receive(5))


def test_a_death_wakes_who_waits(bench: Bench) -> None:
    bench.loop.call_later(0.01, lambda: bench.ends(signal.SIGKILL))
    with pytest.raises(WorkerDied, match="was killed"):
        run(bench.loop, bench.worker.receive(5))


def test_between_two_jobs_it_has_nothing_to_say(bench: Bench) -> None:
    bench.them.send(WorkerReady())
    run(bench.loop, bench.worker.receive(5))
    for _ in range(2):
        bench.worker.take_on(5)
        bench.them.send(DONE)
        assert run(bench.loop, bench.worker.receive(5))[0] == DONE
        bench.worker.rest()
        assert bench.worker.is_silent()
    bench.them.send(DONE)
    assert not bench.worker.is_silent()
    assert bench.worker.violation.endswith("Committed came between two jobs")


def test_what_waits_when_a_job_is_done_is_no_answer_of_the_next(bench: Bench) -> None:
    bench.worker.take_on(5)
    for _ in range(2):
        bench.them.send(DONE)
    assert run(bench.loop, bench.worker.receive(5))[0] == DONE
    turn_until(bench.loop, lambda: not select.select([bench.worker.channel.source], [], [], 0)[0])
    assert not bench.worker.violation
    bench.worker.rest()
    assert not bench.worker.is_silent()


def test_who_says_more_than_may_wait_is_not_heard_to_the_end(bench: Bench) -> None:
    bench.worker.may_wait = 1
    bench.them.send(WorkerReady())
    assert run(bench.loop, bench.worker.receive(5))[0] == WorkerReady()
    for _ in range(3):
        bench.them.send(DONE)
    turn_until(bench.loop, lambda: bench.worker._violation is not None)
    assert run(bench.loop, bench.worker.receive(5))[0] == DONE
    with pytest.raises(WorkerViolation, match="Committed came before others were answered"):
        run(bench.loop, bench.worker.receive(5))


def test_a_message_that_the_table_does_not_permit_is_the_last_thing_heard(bench: Bench) -> None:
    bench.them.send(Versions("1", ()))
    bench.them.send(DONE)
    for _ in range(2):
        with pytest.raises(WorkerViolation, match="Versions is not permitted to probe in phase boot"):
            run(bench.loop, bench.worker.receive(5))


def test_bytes_that_are_no_message_are_a_violation(bench: Bench) -> None:
    bench.socket.send(b"noise")
    with pytest.raises(WorkerViolation, match="not msgpack"):
        run(bench.loop, bench.worker.receive(5))


def test_what_was_said_before_a_violation_is_still_handed_out(bench: Bench) -> None:
    bench.them.send(WorkerReady())
    bench.socket.send(encode(WorkerReady(), 7))
    assert run(bench.loop, bench.worker.receive(5))[0] == WorkerReady()
    with pytest.raises(WorkerViolation, match="frame 7 came where 1 was due"):
        run(bench.loop, bench.worker.receive(5))


def test_descriptors_that_a_message_does_not_carry_are_closed(bench: Bench) -> None:
    file = sealed_memfd("x", b"")
    before = len(list(Path("/proc/self/fd").iterdir()))
    bench.them.send(DONE, (file, file))
    with pytest.raises(WorkerViolation, match="came with 2 descriptors"):
        run(bench.loop, bench.worker.receive(5))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    os.close(file)


def test_an_end_by_the_filter_is_a_violation(bench: Bench) -> None:
    bench.worker.exited.fulfil(Event(Happened.EXITED, 1, 2, int(signal.SIGSYS)))
    with pytest.raises(WorkerViolation, match="was killed by its system-call filter"):
        run(bench.loop, bench.worker.receive(5))


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "ended with 0"),
        (71 << 8, "ended with 71"),
        (signal.SIGKILL, "was killed"),
        (signal.SIGSYS, "was killed by its system-call filter"),
        (signal.SIGABRT | 0x80, "was ended by signal 6"),
    ],
)
def test_the_end_in_words(status: int, text: str) -> None:
    assert exit_text(status) == text


class TestLog:
    @pytest.fixture
    def loop(self) -> Loop:
        return Loop(SystemClock())

    def read(self, loop: Loop, written: list[bytes]) -> list[str]:
        reader, writer = os.pipe()
        lines: list[str] = []
        LogPipe(loop, reader, lines.append)
        for piece in written:
            os.write(writer, piece)
            loop.turn()
        os.close(writer)
        turn_until(loop, lambda: reader not in loop._watched)
        return lines

    def test_whole_lines_whatever_the_pieces(self, loop: Loop) -> None:
        assert self.read(loop, [b"one\ntw", b"o\n\nthr", b"ee"]) == ["one", "two", "three"]

    def test_bytes_that_are_no_text_do_no_harm(self, loop: Loop) -> None:
        assert self.read(loop, [b"\xff\xfe\n"]) == ["\ufffd\ufffd"]

    def test_a_line_without_an_end_is_cut(self, loop: Loop) -> None:
        lines = self.read(loop, [b"x" * 8192] * 4)
        assert max(map(len, lines)) <= 2 * 8192
        assert sum(map(len, lines)) == 4 * 8192

    def test_a_flood_is_cut_and_still_read(self, loop: Loop) -> None:
        lines = self.read(loop, [b"y" * 999 + b"\n"] * 200)
        assert sum(map(len, lines)) <= LOG_BYTES_A_WORKER + 100
        assert lines[-1] == "(it says more than anyone will read)"
