# SPDX-License-Identifier: Apache-2.0
"""How long one connection lasts: reuse, repetition, turns, and who closes it how."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipc.errors import HostUnreachable
from supervisor.loop import Loop
from supervisor.wire.connection import Answer, Connection, Limits
from supervisor.wire.requests import Catalogue, Request
from tests.unit.wire.scripted_server import GOAL_STATE, Peer, Script, ScriptedServer, always, answer, bad, once
from tests.unit.wire.turning import Run, finish, turn_until

QUICK = Limits(connect_s=0.5, silence_s=0.3, answer_s=0.9)
CATALOGUE = Catalogue("127.0.0.1")
MIB = 1024 * 1024


def test_answers_that_nobody_asked_for_are_not_taken_for_the_next_one(run: Run[Answer], loop: Loop) -> None:
    with ScriptedServer(bad(answer(b"first") + answer(b"forged") * 3), always(answer(b"second"))) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        assert run(connection.exchange(CATALOGUE.goal_state)).body == b"first"
        assert run(connection.exchange(CATALOGUE.goal_state)).body == b"second"
        connection.close()


def test_bytes_while_nothing_is_asked_end_the_connection(run: Run[Answer], loop: Loop) -> None:
    taken = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer(b"first"))
        taken.wait(10)
        peer.send(answer(b"forged"))
        assert peer.end() == "reset"

    with ScriptedServer(script, always(answer(b"second"))) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        run(connection.exchange(CATALOGUE.goal_state))
        taken.set()
        turn_until(loop, lambda: not connection.is_open)
        assert run(connection.exchange(CATALOGUE.goal_state)).body == b"second"
        connection.close()


def test_kept_connection_is_used_again(run: Run[Answer], loop: Loop) -> None:
    with ScriptedServer(always(answer())) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        for _ in range(5):
            assert run(connection.exchange(CATALOGUE.goal_state)) == Answer(200, GOAL_STATE)
        assert connection.is_open
        connection.close()
    assert server.accepted == 1
    assert len(server.requests) == 5


def test_host_that_closes_after_each_answer_sees_its_fin_answered(run: Run[Answer], loop: Loop) -> None:
    ends = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer(GOAL_STATE, "200 OK", "Connection: close"))
        peer.half_close()
        ends.append(peer.end())

    with ScriptedServer(script, script) as server:
        before = lingering(server.port)
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        run(connection.exchange(CATALOGUE.goal_state))
        turn_until(loop, lambda: bool(ends))
        run(connection.exchange(CATALOGUE.goal_state))
        turn_until(loop, lambda: len(ends) == 2)
    assert ends == ["fin", "fin"]
    assert server.accepted == 2
    assert lingering(server.port) <= before


def test_our_own_close_is_a_reset_and_leaves_nothing(run: Run[Answer], loop: Loop) -> None:
    ends = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        ends.append(peer.end())

    with ScriptedServer(script) as server:
        before = lingering(server.port)
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        run(connection.exchange(CATALOGUE.goal_state))
        connection.close()
        server.finish()
        assert ends == ["reset"]
        assert lingering(server.port) <= before


def test_answer_without_length_lasts_until_the_host_closes(run: Run[Answer], loop: Loop) -> None:
    with ScriptedServer(once(b"HTTP/1.1 200 OK\r\n\r\nall"), once(b"HTTP/1.0 202 Yes\r\n\r\n")) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        assert run(connection.exchange(CATALOGUE.goal_state)) == Answer(200, b"all")
        assert run(connection.exchange(CATALOGUE.goal_state)) == Answer(202, b"")
        connection.close()


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset], ids=["fin", "reset"])
def test_host_that_left_meanwhile_is_asked_anew_without_a_word(
    run: Run[Answer], loop: Loop, leave: Callable[[Peer], None]
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer(b"first"))
        leave(peer)

    with ScriptedServer(script, always(answer(b"second"))) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        assert run(connection.exchange(CATALOGUE.goal_state)).body == b"first"
        turn_until(loop, lambda: not connection.is_open)
        assert run(connection.exchange(CATALOGUE.goal_state)).body == b"second"
        connection.close()
    assert server.accepted == 2


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset], ids=["fin", "reset"])
def test_host_that_leaves_while_the_next_request_travels(
    run: Run[Answer], loop: Loop, leave: Callable[[Peer], None]
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer(b"first"))
        peer.request()
        leave(peer)

    def both(last: Script) -> ScriptedServer:
        return ScriptedServer(script, last)

    with both(always(answer(b"second"))) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        run(connection.exchange(CATALOGUE.goal_state))
        assert run(connection.exchange(CATALOGUE.health(b"<Health/>"))).body == b"second"
        connection.close()
    assert server.requests[1] == server.requests[2]
    with both(once(b"")) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        run(connection.exchange(CATALOGUE.goal_state))
        with pytest.raises(HostUnreachable, match="closed without an answer"):
            run(connection.exchange(CATALOGUE.goal_state))
    assert len(server.requests) == 3


def test_answer_that_has_begun_on_a_kept_connection_is_not_asked_for_anew(run: Run[Answer], loop: Loop) -> None:
    taken = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        peer.request()
        peer.send(answer()[:-5])
        taken.wait(10)
        peer.reset()

    with ScriptedServer(script, always(answer())) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        run(connection.exchange(CATALOGUE.goal_state))
        loop.call_later(0.1, taken.set)
        with pytest.raises(HostUnreachable, match="connection reset by peer"):
            run(connection.exchange(CATALOGUE.goal_state))
    assert server.accepted == 1


def test_request_that_must_not_be_doubled_is_not_repeated(run: Run[Answer], loop: Loop) -> None:
    delicate = CATALOGUE.health(b"<Health/>")
    delicate = Request(delicate.what, delicate.head, delicate.body, delicate.max_body_bytes, repeatable=False)

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        peer.request()

    with ScriptedServer(script, always(answer())) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        run(connection.exchange(CATALOGUE.goal_state))
        with pytest.raises(HostUnreachable, match="closed without an answer"):
            run(connection.exchange(delicate))
    assert server.accepted == 1


def test_large_report_to_a_host_that_reads_slowly(run: Run[Answer], loop: Loop) -> None:
    report = b"<" + b"x" * (6 * MIB) + b">"
    with ScriptedServer(always(answer())) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), Limits())
        run(connection.exchange(CATALOGUE.health(report)))
        connection.close()
    assert server.requests[0].endswith(report)


def test_exchanges_at_the_same_time_take_turns(loop: Loop) -> None:
    with ScriptedServer(always(answer())) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        tasks = [loop.start(f"{n}", connection.exchange(CATALOGUE.health(f"{n}".encode()))) for n in range(4)]
        for task in tasks:
            finish(loop, task)
        connection.close()
    assert [request[-1:] for request in server.requests] == [b"0", b"1", b"2", b"3"]
    assert server.accepted == 1


def test_close_fails_what_is_under_way_what_waits_and_what_comes(run: Run[Answer], loop: Loop) -> None:
    with ScriptedServer(bad(b"")) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), Limits())
        tasks: list[Any] = [loop.start(f"{n}", connection.exchange(CATALOGUE.goal_state)) for n in range(3)]
        for task in tasks:
            task.when_done(lambda: None)
        turn_until(loop, lambda: bool(server.requests))
        connection.close()
        for task in tasks:
            with pytest.raises(HostUnreachable, match="given up on our side"):
                finish(loop, task)
        with pytest.raises(HostUnreachable, match="given up on our side"):
            run(connection.exchange(CATALOGUE.goal_state))
    assert server.accepted == 1


def test_proxy_of_the_environment_is_never_asked(run: Run[Answer], loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(always(answer())) as server, ScriptedServer(always(answer(b"proxy"))) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        assert run(connection.exchange(CATALOGUE.goal_state)).body == GOAL_STATE
        connection.close()
    assert proxy.accepted == 0


def lingering(port: int) -> set[str]:
    """Sockets of the client's side of `port` that the kernel still knows, each by its two addresses in /proc/net/tcp.

    Another test may have had the same port a moment ago."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"{fields[1]} {fields[2]}" for fields in lines if fields[2] == f"0100007F:{port:04X}"}
