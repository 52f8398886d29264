# SPDX-License-Identifier: Apache-2.0
"""One kept-alive connection against every fault that a host, or whoever poses as one, can show."""

import socket
import threading

import pytest

from ipc.errors import HostUnreachable
from supervisor.loop import Loop
from supervisor.wire.connection import Answer, Connection, Limits
from supervisor.wire.requests import Catalogue, Request
from tests.unit.wire.scripted_server import GOAL_STATE, Peer, Script, ScriptedServer, always, answer, bad, once
from tests.unit.wire.turning import Run

QUICK = Limits(connect_s=0.5, silence_s=0.3, answer_s=0.9)
CATALOGUE = Catalogue("127.0.0.1")
MIB = 1024 * 1024


def fault(run: Run[Answer], loop: Loop, script: Script, request: Request = CATALOGUE.goal_state) -> str:
    """The text of the failure that a first request meets; the client must end such a connection by a reset."""
    with ScriptedServer(script) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        with pytest.raises(HostUnreachable) as caught:
            run(connection.exchange(request))
        assert not connection.is_open
    what, _, problem = str(caught.value).partition(": ")
    assert what == request.what
    return problem


def test_requests_are_exactly_these_bytes(run: Run[Answer], loop: Loop) -> None:
    with ScriptedServer(always(answer())) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        run(connection.exchange(CATALOGUE.versions))
        run(connection.exchange(CATALOGUE.goal_state))
        run(connection.exchange(CATALOGUE.health(b"<Health/>")))
        connection.close()
    common = b"Host: 127.0.0.1\r\nAccept-Encoding: identity\r\nUser-Agent: WALinuxAgent/2.15.0.1\r\n"
    names = b"x-ms-agent-name: WALinuxAgent\r\nx-ms-version: 2012-11-30\r\n"
    assert server.requests == [
        b"GET /?comp=versions HTTP/1.1\r\n" + common + b"\r\n",
        b"GET /machine/?comp=goalstate HTTP/1.1\r\n" + common + names + b"\r\n",
        b"POST /machine?comp=health HTTP/1.1\r\n"
        + common
        + b"Content-Length: 9\r\n"
        + names
        + b"Content-Type: text/xml;charset=utf-8\r\n\r\n<Health/>",
    ]
    assert server.accepted == 1


def test_refused(run: Run[Answer], loop: Loop) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        connection = Connection(loop, unused.getsockname(), QUICK)
        with pytest.raises(HostUnreachable, match=r"^GET /machine/\?comp=goalstate: connection refused$"):
            run(connection.exchange(CATALOGUE.goal_state))


def test_no_connection(run: Run[Answer], loop: Loop) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        connection = Connection(loop, full.getsockname(), QUICK)
        with pytest.raises(HostUnreachable, match=r"no connection within 0\.5 s"):
            run(connection.exchange(CATALOGUE.goal_state))


def test_silence(run: Run[Answer], loop: Loop) -> None:
    assert fault(run, loop, bad(b"")) == "no answer within 0.3 s"


def test_silence_within_the_answer(run: Run[Answer], loop: Loop) -> None:
    assert fault(run, loop, bad(answer()[:-5])) == "silent for 0.3 s within the answer"


def test_slow_drip_ends_with_the_whole_time(run: Run[Answer], loop: Loop) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.drip(answer(b"x" * 1000), pause_s=0.05)

    assert fault(run, loop, script) == "answer not complete within 0.9 s"


def test_reset_instead_of_an_answer(run: Run[Answer], loop: Loop) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.reset()

    assert fault(run, loop, script) == "connection reset by peer"


def test_closed_instead_of_an_answer(run: Run[Answer], loop: Loop) -> None:
    assert fault(run, loop, once(b"")) == "closed without an answer"


def test_reset_within_the_answer(run: Run[Answer], loop: Loop) -> None:
    taken = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer()[:-5])
        taken.wait(10)  # the client has read the first part
        peer.reset()

    loop.call_later(0.1, taken.set)
    assert fault(run, loop, script) == "connection reset by peer"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (answer()[:-1], "unusable answer, peer closed connection without sending complete message body"),
        (answer()[:10], "unusable answer, peer unexpectedly closed connection"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "unusable answer, can't handle event type ConnectionClosed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "unusable answer, peer closed connection"),
    ],
)
def test_cut_off(run: Run[Answer], loop: Loop, content: bytes, problem: str) -> None:
    assert fault(run, loop, once(content)).startswith(problem)


def test_length_too_large_is_a_truncation_and_too_small_is_followed_by_garbage(run: Run[Answer], loop: Loop) -> None:
    assert "closed" in fault(run, loop, once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour"))
    with ScriptedServer(bad(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour more"), always(answer())) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        assert run(connection.exchange(CATALOGUE.goal_state)).body == b"four"
        assert not connection.is_open
        assert run(connection.exchange(CATALOGUE.goal_state)).body == GOAL_STATE
        connection.close()


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (b"Content-Length: 4\r\nContent-Length: 5", "conflicting Content-Length headers"),
        (b"Content-Length: 4, 5", "conflicting Content-Length headers"),
        (b"Content-Length: -4", "bad Content-Length"),
        (b"Content-Length: 0x4", "bad Content-Length"),
        (b"Content-Length:", "bad Content-Length"),
        (b"Content-Length: " + b"9" * 30, "bad Content-Length"),
        (b"Content-Length: 4\r\nTransfer-Encoding: chunked", "two different lengths"),
        (b"Transfer-Encoding: gzip, chunked", "Only Transfer-Encoding"),
        (b"Content-Encoding: gzip\r\nContent-Length: 4", "compressed though not asked for"),
        (b"No colon", "illegal header line"),
        (b"Bad name: 4", "illegal header line"),
        (b"Nul: a\x00b", "illegal header line"),
    ],
)
def test_heads_that_leave_doubt(run: Run[Answer], loop: Loop, head: bytes, problem: str) -> None:
    found = fault(run, loop, bad(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nfour"))
    assert found.startswith(f"unusable answer, {problem}")


def test_equal_lengths_twice_are_one_length(run: Run[Answer], loop: Loop) -> None:
    with ScriptedServer(always(answer(GOAL_STATE, "200 OK", f"content-length: {len(GOAL_STATE)}"))) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        assert run(connection.exchange(CATALOGUE.goal_state)).body == GOAL_STATE
        connection.close()


@pytest.mark.parametrize(
    "content",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x00" * 5000,
        b"\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfourX\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n",
    ],
)
def test_not_http_is_named_without_being_quoted(run: Run[Answer], loop: Loop, content: bytes) -> None:
    problem = fault(run, loop, bad(content))
    assert problem.startswith("unusable answer, ")
    assert "SSH" not in problem
    assert "\\x" not in problem


@pytest.mark.parametrize("line", [b"X-Filler: " + b"x" * 90 + b"\r\n", b"x" * 100])
def test_endless_headers(run: Run[Answer], loop: Loop, line: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n")
        assert peer.flood(line * 10, 100_000) < 100_000

    assert fault(run, loop, script) == "headers longer than 16384 bytes"


def test_endless_interim_answers(run: Run[Answer], loop: Loop) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        assert peer.flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 100_000) < 100_000

    assert fault(run, loop, script) == "headers longer than 16384 bytes"


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"x" * 65536),
        (b"Transfer-Encoding: chunked\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n" * 10_000),
    ],
    ids=["until-close", "chunked", "tiny-chunks"],
)
def test_eight_mib_too_long_is_not_read_to_its_end(run: Run[Answer], loop: Loop, head: bytes, piece: bytes) -> None:
    sent_bytes = []

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        sent_bytes.append(len(piece) * peer.flood(piece, 8 * MIB // len(piece)))

    assert fault(run, loop, script) == f"answer longer than {CATALOGUE.goal_state.max_body_bytes} bytes"
    # Less what the kernel's two socket buffers took.
    assert sent_bytes[0] < 8 * MIB - 65536


def test_announced_length_over_the_limit_is_refused_unread(run: Run[Answer], loop: Loop) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 8650752\r\n\r\n"
    assert fault(run, loop, bad(head)) == f"answer longer than {CATALOGUE.goal_state.max_body_bytes} bytes"


def test_one_byte_over_the_limit_without_announcement(run: Run[Answer], loop: Loop) -> None:
    body = b"x" * (CATALOGUE.goal_state.max_body_bytes + 1)
    assert "longer than" in fault(run, loop, bad(b"HTTP/1.1 200 OK\r\n\r\n" + body))


def test_answer_of_exactly_the_limit_is_taken(run: Run[Answer], loop: Loop) -> None:
    body = b"x" * CATALOGUE.goal_state.max_body_bytes
    with ScriptedServer(always(answer(body))) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), QUICK)
        assert run(connection.exchange(CATALOGUE.goal_state)).body == body
        connection.close()


@pytest.mark.parametrize(
    "content",
    [
        answer(),
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"8;x=y\r\n<GoalSta\r\n10\r\nte>1</GoalState>\r\n0\r\nT: 1\r\n\r\n",
    ],
    ids=["length", "after-interim", "chunked"],
)
def test_one_byte_at_a_time(run: Run[Answer], loop: Loop, content: bytes) -> None:
    def script(peer: Peer) -> None:
        for _ in range(2):
            peer.request()
            peer.drip(content, pause_s=0.0)

    with ScriptedServer(script) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), Limits())
        for _ in range(2):
            assert run(connection.exchange(CATALOGUE.goal_state)) == Answer(200, GOAL_STATE)
        connection.close()
    assert server.accepted == 1


def test_answer_without_length_that_never_ends(run: Run[Answer], loop: Loop) -> None:
    assert fault(run, loop, bad(b"HTTP/1.1 200 OK\r\n\r\nall")) == "silent for 0.3 s within the answer"


def test_host_that_does_not_read(run: Run[Answer], loop: Loop) -> None:
    endless = CATALOGUE.health(b"x" * (32 * MIB))
    assert fault(run, loop, Peer.hang, endless) == "not taken within 0.3 s"
