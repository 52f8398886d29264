# SPDX-License-Identifier: Apache-2.0
"""The forwarder's side of a handler's connection: whatever is sent, only what is within the grant comes of it."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.channel import PacketChannel
from ipc.descriptors import close_all, packet_pair, sealed_memfd
from ipc.messages import Forward, ForwardAnswer, ForwardRequest, WireGrant
from policy.grants import is_passed_on, permitted
from workers.forwarder.client import REQUEST_S, Client
from workers.forwarder.main import MOST_CLIENTS, MOST_TOLD, Desk

ADDRESS, PATH = "168.63.129.16", "/metadata/recsvc/snapshot/dosnapshot"
GRANT = WireGrant("Vendor.Snapshot", ("POST",), (PATH,), "The backup calls the host itself.", "vendor", body_bytes=64)
GOOD = (
    f"POST {PATH} HTTP/1.1\r\nHost: {ADDRESS}\r\nBackup: true\r\nX-Other: 1\r\nContent-Length: 4\r\n\r\nbody".encode()
)
PIECES = [
    b"POST",
    b"GET",
    b" ",
    PATH.encode(),
    b"/../machine",
    b"%2e%2e",
    b"?comp=certificates",
    b" HTTP/1.1",
    b"\r\n",
    b"\n",
    b"\r",
    b"Host: 168.63.129.16",
    b"Host: other",
    b"Content-Length: 4",
    b"Content-Length: 99",
    b"Transfer-Encoding: chunked",
    b"4\r\nbody\r\n0\r\n\r\n",
    b"body",
    b": ",
    b"\t",
    b"\0",
    b"\xff",
    b"Expect: 100-continue",
    b"http://168.63.129.16",
]


@contextmanager
def connected() -> Iterator[tuple[Client, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        yield Client(ours, GRANT, ADDRESS, 0.0), theirs


def after(client: Client, theirs: socket.socket, pieces: Sequence[bytes]) -> Client:
    """What has become of it once all of `pieces` were sent, as far as it still listens."""
    for piece in pieces:
        if client.state != "reading":
            break
        theirs.sendall(piece)
        client.on_ready(1.0)
    return client


@given(st.lists(st.integers(0, len(GOOD)), max_size=6))
def test_a_request_is_the_same_in_whatever_pieces_it_comes(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(GOOD)]
    pieces = [GOOD[start:end] for start, end in pairwise(places) if start < end]
    with connected() as (client, theirs):
        assert after(client, theirs, pieces).state == "waiting"
        assert client.request == ForwardRequest("POST", PATH, (("backup", "true"),))
        assert client.body == b"body"
        client.answer(200, "text/plain", b"well", 2.0)
        assert theirs.recv(4096).endswith(b"\r\n\r\nwell")


MUTATED = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join) | st.tuples(
    st.integers(0, len(GOOD)), st.integers(0, 12), st.sampled_from(PIECES)
).map(lambda cut: GOOD[: cut[0]] + cut[2] + GOOD[cut[0] + cut[1] :])


@given(MUTATED)
def test_nothing_else_comes_of_whatever_is_sent(content: bytes) -> None:
    with connected() as (client, theirs):
        after(client, theirs, [content] if content else [])
        assert client.state in {"reading", "waiting", "parting", "closed"}
        if client.state == "waiting":
            assert client.request is not None
            assert permitted(GRANT, client.request.method, client.request.target)
            assert all(is_passed_on(*header) for header in client.request.headers)
            assert len(client.body) <= GRANT.body_bytes
        elif client.state == "parting":
            assert client.refusal is not None
            assert theirs.recv(4096).startswith(b"HTTP/1.1 %d " % client.refusal.status)


def test_who_takes_too_long_is_told_and_who_says_nothing_more_is_let_go() -> None:
    with connected() as (client, theirs):
        after(client, theirs, [GOOD[:20]])
        client.on_deadline(REQUEST_S)
        assert b" 408 " in theirs.recv(4096)
        assert client.fileno() >= 0
        client.on_deadline(REQUEST_S + 3)
        assert client.fileno() == -1


@pytest.fixture
def desk() -> Iterator[tuple[Desk, PacketChannel, tuple[str, int]]]:
    """Running, with the supervisor's end of its channel, and where it listens."""
    ours, theirs = packet_pair()
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    channel = PacketChannel(theirs)
    made = Desk(channel, listener, Forward(GRANT, ADDRESS))
    runner = Thread(target=tell, args=(made, channel))
    runner.start()
    yield made, PacketChannel(ours), listener.getsockname()
    runner.join(10)
    assert not runner.is_alive()
    for each in (ours, theirs, listener):
        each.close()


def tell(desk: Desk, channel: PacketChannel) -> None:
    """As the worker's runtime does."""
    for told in desk.run():
        message, descriptors = told if isinstance(told, tuple) else (told, ())
        channel.send(message, descriptors)
        close_all(descriptors)


def test_it_ends_when_it_has_had_enough_and_answers_all_that_it_has_taken(
    desk: tuple[Desk, PacketChannel, tuple[str, int]],
) -> None:
    """Several at a time, one question at a time."""
    made, channel, place = desk
    answered = 0
    while answered < MOST_TOLD:
        crowd = [socket.create_connection(place) for _ in range(min(MOST_CLIENTS, MOST_TOLD - answered))]
        for each in crowd:
            each.sendall(GOOD)
        for _ in crowd:
            message, descriptors = channel.receive(5)
            close_all(descriptors)
            assert isinstance(message, ForwardRequest)
            body = sealed_memfd("answer", b"well")
            channel.send(ForwardAnswer(200), (body,))
            close_all((body,))
        for each in crowd:
            with each:
                each.settimeout(5)
                assert each.recv(4096).endswith(b"well")
        answered += len(crowd)
    assert made.told == MOST_TOLD
