# SPDX-License-Identifier: Apache-2.0
"""The loop with a real poller and real sockets: tasks, promises, timers, failures, and no turn without a reason."""

import os
import socket
import time
from collections.abc import Iterator

import pytest
import zmq

from supervisor.clock import SystemClock
from supervisor.loop import READ, Loop, Promise, TimedOut
from tests.unit.supervisor.turned import HandClock, run, turn_until


@pytest.fixture
def loop() -> Loop:
    return Loop(SystemClock())


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


class TestPromises:
    def test_the_first_outcome_counts(self) -> None:
        promise: Promise[int] = Promise()
        promise.fulfil(1)
        promise.fulfil(2)
        promise.fail(ValueError("late"))
        assert (promise.done, promise.result()) == (True, 1)

    def test_a_failure_is_raised_where_it_is_awaited(self, loop: Loop) -> None:
        promise: Promise[int] = Promise()
        loop.call_later(0, lambda: promise.fail(ValueError("no")))

        async def work() -> str:
            try:
                await promise
            except ValueError as error:
                return str(error)
            return "nothing raised"

        assert run(loop, work()) == "no"

    def test_actions_run_once_settled_or_at_once(self) -> None:
        promise: Promise[None] = Promise()
        seen: list[str] = []
        promise.when_done(lambda: seen.append("before"))
        assert not seen
        promise.fulfil(None)
        promise.when_done(lambda: seen.append("after"))
        assert seen == ["before", "after"]

    def test_several_tasks_may_wait_for_one(self, loop: Loop) -> None:
        promise: Promise[int] = Promise()

        async def wait() -> int:
            return await promise

        outcomes = [loop.start("one", wait()), loop.start("other", wait())]
        loop.call_later(0, lambda: promise.fulfil(7))
        turn_until(loop, lambda: all(outcome.done for outcome in outcomes))
        assert [outcome.result() for outcome in outcomes] == [7, 7]


class TestTimers:
    def test_they_run_in_the_order_of_their_times(self, loop: Loop) -> None:
        seen: list[int] = []
        for number in (3, 1, 2):
            loop.call_later(number / 100, lambda number=number: seen.append(number))  # type: ignore[misc]
        turn_until(loop, lambda: len(seen) == 3)
        assert seen == [1, 2, 3]

    def test_one_taken_back_never_runs(self, loop: Loop) -> None:
        seen: list[str] = []
        cancel = loop.call_later(0.01, lambda: seen.append("cancelled"))
        loop.call_later(0.02, lambda: seen.append("kept"))
        cancel()
        turn_until(loop, lambda: bool(seen))
        assert seen == ["kept"]
        cancel()

    def test_only_the_injected_clock_decides(self) -> None:
        clock = HandClock()
        loop = Loop(clock)
        seen: list[str] = []
        loop.call_later(3600, lambda: seen.append("due"))
        loop.call_later(0, lambda: None)
        loop.turn()
        assert not seen
        clock.now += 3600
        loop.turn()
        assert seen == ["due"]

    def test_a_loop_with_nothing_but_a_timer_sleeps_until_it_is_due(self, loop: Loop) -> None:
        """ZeroMQ's poller alone would return at once, over and over."""
        seen: list[str] = []
        before, started = time.process_time(), time.monotonic()
        loop.call_later(0.2, lambda: seen.append("due"))
        while not seen:
            loop.turn()
        assert time.monotonic() - started >= 0.2
        assert loop.turns <= 3
        assert time.process_time() - before < 0.1

    def test_with_a_descriptor_watched_it_sleeps_too(
        self, loop: Loop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        seen: list[str] = []
        loop.watch(pair[0].fileno(), lambda: None)
        loop.call_later(0.1, lambda: seen.append("due"))
        while not seen:
            loop.turn()
        assert loop.turns <= 3


class TestWaits:
    def test_within_gives_the_value(self, loop: Loop) -> None:
        promise: Promise[int] = Promise()
        loop.call_later(0.01, lambda: promise.fulfil(5))
        assert run(loop, loop.within(promise, 5)) == 5

    def test_within_gives_up_but_leaves_the_promise_open(self, loop: Loop) -> None:
        promise: Promise[int] = Promise()
        with pytest.raises(TimedOut):
            run(loop, loop.within(promise, 0.01))
        assert not promise.done
        promise.fulfil(1)
        assert run(loop, loop.within(promise, 0.01)) == 1

    def test_ready_waits_for_the_descriptor_and_forgets_it(
        self, loop: Loop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = pair
        loop.call_later(0.01, lambda: theirs.sendall(b"x"))
        run(loop, loop.ready(ours.fileno(), READ, 5))
        assert ours.recv(1) == b"x"
        with pytest.raises(TimedOut):
            run(loop, loop.ready(ours.fileno(), READ, 0.01))
        loop.unwatch(ours.fileno())

    def test_all_waits_for_everyone_and_raises_the_first_failure(self, loop: Loop) -> None:
        slow: Promise[None] = Promise()

        async def fails() -> None:
            raise ValueError("no")

        loop.call_later(0.02, lambda: slow.fulfil(None))
        with pytest.raises(ValueError, match="no"):
            run(loop, loop.all(loop.start("fails", fails()), slow))
        assert slow.done

    def test_settled_raises_nothing(self, loop: Loop) -> None:
        promise: Promise[None] = Promise()
        promise.fail(ValueError("no"))
        run(loop, loop.settled(promise))


class TestSources:
    def test_a_zeromq_socket_wakes_the_loop(self, loop: Loop) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        ours, theirs = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        ours.bind("inproc://loop")
        theirs.connect("inproc://loop")
        seen: list[bytes] = []
        loop.watch(ours, lambda: seen.append(ours.recv()))
        theirs.send(b"one")
        theirs.send(b"two")
        turn_until(loop, lambda: len(seen) == 2)
        assert seen == [b"one", b"two"]
        loop.unwatch(ours)
        context.destroy(linger=0)

    def test_a_pidfd_wakes_the_loop(self, loop: Loop) -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        pidfd = os.pidfd_open(pid)
        ended: list[int] = []

        def bury() -> None:
            ended.append(os.waitpid(pid, 0)[0])
            loop.unwatch(pidfd)

        loop.watch(pidfd, bury)
        turn_until(loop, lambda: bool(ended))
        os.close(pidfd)
        assert ended == [pid]

    def test_one_that_is_unwatched_in_the_same_turn_is_not_called(self, loop: Loop) -> None:
        pairs = [socket.socketpair() for _ in range(2)]
        seen: list[int] = []

        def act(number: int) -> None:
            seen.append(number)
            loop.unwatch(pairs[1 - number][0].fileno())

        for number, (ours, theirs) in enumerate(pairs):
            loop.watch(ours.fileno(), lambda number=number: act(number))  # type: ignore[misc]
            theirs.send(b"x")
        loop.turn()
        assert len(seen) == 1
        for one, other in pairs:
            one.close()
            other.close()

    def test_unwatching_what_is_not_watched_is_harmless(self, loop: Loop) -> None:
        loop.unwatch(0)


class TestFailures:
    def test_callbacks_timers_and_detached_tasks_are_reported_and_the_loop_goes_on(
        self, loop: Loop, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        reported: list[tuple[str, str]] = []
        loop.on_failure(lambda name, error: reported.append((name, str(error))))

        async def fails() -> None:
            raise ValueError("task")

        def callback() -> None:
            pair[0].recv(1)
            raise ValueError("callback")

        def timer() -> None:
            raise ValueError("timer")

        pair[1].send(b"x")
        loop.watch(pair[0].fileno(), callback)
        loop.call_later(0, timer)
        loop.start("mine", fails(), detached=True)
        turn_until(loop, lambda: len(reported) == 3)
        assert sorted(reported) == [("callback", "callback"), ("mine", "task"), ("timer", "timer")]

    def test_a_tasks_failure_belongs_to_who_awaits_it(self, loop: Loop) -> None:
        reported: list[str] = []
        loop.on_failure(lambda name, _: reported.append(name))

        async def fails() -> None:
            raise ValueError("task")

        outcome = loop.start("awaited", fails())
        turn_until(loop, lambda: outcome.done)
        with pytest.raises(ValueError, match="task"):
            outcome.result()
        assert not reported

    def test_without_a_reporter_nothing_is_swallowed(self, loop: Loop) -> None:
        def timer() -> None:
            raise ValueError("timer")

        loop.call_later(0, timer)
        with pytest.raises(ValueError, match="timer"):
            loop.turn()

    def test_who_ends_the_process_is_not_caught(self, loop: Loop) -> None:
        loop.on_failure(lambda *_: None)

        def leave() -> None:
            raise SystemExit(1)

        loop.call_later(0, leave)
        with pytest.raises(SystemExit):
            loop.turn()


def test_run_ends_with_stop(loop: Loop) -> None:
    loop.call_later(0.01, loop.stop)
    loop.run()
    assert loop.turns >= 1
