# SPDX-License-Identifier: Apache-2.0
"""Every fault does on the wire what its name says and meets the requests it is written for, no others."""

import gzip
import time
from collections.abc import Callable, Iterator
from xml.etree import ElementTree as ET

import pytest

from tests.fabric.faults import Fault
from tests.fabric.misbehaviour import ENDLESS_BYTES, HUGE_BYTES, KINDS
from tests.fabric.wire_client import (
    RawClient,
    Reply,
    ask_once,
    get_goal_state,
    get_versions,
    post_health,
    report_on,
)
from tests.fabric.wireserver import WireServer


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as running:
        yield running


def truth(server: WireServer) -> Reply:
    return ask_once(server.address, get_versions(server.address))


def framed(data: bytes) -> tuple[int, dict[str, list[str]], bytes]:
    """Status, headers with all their values, and whatever follows the head."""
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers.setdefault(name.lower(), []).append(value)
    return int(first.split()[1]), headers, rest


def dechunk(data: bytes) -> bytes:
    """The body of a well-formed chunked answer."""
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if size == b"0":
            assert data == b"\r\n"
            return body
        body += data[: int(size, 16)]
        assert data[int(size, 16) :][:2] == b"\r\n"
        data = data[int(size, 16) + 2 :]


def sent(server: WireServer, fault: str) -> bytes:
    """All that the host sends in answer to one request for versions that meets `fault`, until it closes."""
    server.fault(f"versions:{fault}*1")
    with RawClient(server.address) as client:
        client.send(get_versions(server.address).having("Connection", "close"))
        return client.everything()


def sent_so_far(server: WireServer, fault: str, size: int) -> bytes:
    """The first `size` bytes or more, from a host that then falls silent without closing."""
    server.fault(f"versions:{fault}*1")
    with RawClient(server.address) as client:
        client.send(get_versions(server.address))
        while len(client.buffer) < size:
            client._more()
        client.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        return client.buffer


Check = Callable[[WireServer], None]
CHECKS: dict[str, Check] = {}


def checks(name: str) -> Callable[[Check], Check]:
    def keep(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return keep


@checks("status")
def _(server: WireServer) -> None:
    for code in (205, 206, 403, 410, 429, 500, 503):
        server.fault(f"versions:status={code}*1")
        reply = truth(server)
        assert reply.status == code
        assert bool(reply.body) == (code != 205)
        assert server.records[-1].status == code


@checks("invalid-container")
def _(server: WireServer) -> None:
    status, _, body = framed(sent(server, "invalid-container"))
    assert status == 400
    assert b"InvalidContainerConfiguration" in body


@checks("redirect")
def _(server: WireServer) -> None:
    status, headers, _ = framed(sent(server, "redirect=http://127.0.0.1:9/elsewhere"))
    assert status == 302
    assert headers["location"] == ["http://127.0.0.1:9/elsewhere"]


@checks("silence")
def _(server: WireServer) -> None:
    assert sent(server, "silence=0.1") == b""
    server.fault("versions:silence*1")
    with RawClient(server.address, 0.1) as client:
        client.send(get_versions(server.address))
        with pytest.raises(TimeoutError):
            client.reply()
    server.wait_for(lambda seen: seen.connections[-1].ended is not None)


@checks("drop")
@checks("lost")
def _(server: WireServer) -> None:
    assert sent(server, "drop") == sent(server, "lost") == b""


@checks("reset")
def _(server: WireServer) -> None:
    server.fault("versions:reset*1")
    with RawClient(server.address) as client:
        client.send(get_versions(server.address))
        with pytest.raises(ConnectionResetError):
            client.reply()
    server.wait_for(lambda seen: seen.connections[-1].how == "reset by the host")


@checks("reset-body")
def _(server: WireServer) -> None:
    server.fault("versions:reset-body*1")
    with RawClient(server.address) as client:
        client.send(get_versions(server.address))
        with pytest.raises(ConnectionResetError):
            client.reply()


@checks("truncate")
def _(server: WireServer) -> None:
    _, headers, body = framed(sent(server, "truncate"))
    assert 0 < len(body) < int(headers["content-length"][0])


@checks("not-http")
def _(server: WireServer) -> None:
    assert sent(server, "not-http") == b"220 mail.invalid ESMTP\r\n"
    assert sent(server, "not-http=SSH-2.0-x y") == b"SSH-2.0-x y\r\n"


@checks("delay")
def _(server: WireServer) -> None:
    server.fault("versions:delay=0.2*1")
    before = time.monotonic()
    slow = truth(server)
    assert time.monotonic() - before >= 0.2
    assert slow == truth(server)


@checks("drip")
def _(server: WireServer) -> None:
    server.fault("versions:drip=0.0005*1")
    with RawClient(server.address) as client:
        client.send(get_versions(server.address))
        client.buffer = client.socket.recv(65536)
        assert len(client.buffer) < 100  # a byte at a time: the kernel may have gathered a few
        assert client.reply() == truth(server)


@checks("no-length")
def _(server: WireServer) -> None:
    _, headers, body = framed(sent(server, "no-length"))
    assert "content-length" not in headers
    assert body == truth(server).body


@checks("close-after")
def _(server: WireServer) -> None:
    server.fault("versions:close-after*1")
    with RawClient(server.address) as client:
        assert client.ask(get_versions(server.address)).headers.get("connection") is None
        with pytest.raises((EOFError, ConnectionError)):
            client.ask(get_versions(server.address))


@checks("garbage-after")
def _(server: WireServer) -> None:
    server.fault("versions:garbage-after*1")
    with RawClient(server.address) as client:
        assert client.ask(get_versions(server.address)).body == truth(server).body
        assert client.buffer == b"\x00\xffgarbage\r\n"
        client.send(get_versions(server.address))  # the connection is kept
        server.wait_for(lambda seen: seen.connections[0].requests == 2)


def wrong_length(name: str, expected: Callable[[int], list[str]]) -> None:
    @checks(name)
    def _(server: WireServer) -> None:
        body = truth(server).body
        _, headers, received = framed(sent_so_far(server, name, len(body)))
        assert headers["content-length"] == expected(len(body))
        assert received == body


wrong_length("length-short", lambda size: [str(size // 2)])
wrong_length("length-long", lambda size: [str(size + 100)])
wrong_length("length-negative", lambda _: ["-1"])
wrong_length("length-text", lambda _: ["many"])
wrong_length("length-enormous", lambda _: ["9" * 30])
wrong_length("length-two", lambda size: [str(size), str(size // 2)])


@checks("chunked")
def _(server: WireServer) -> None:
    _, headers, rest = framed(sent(server, "chunked"))
    assert headers["transfer-encoding"] == ["chunked"]
    assert "content-length" not in headers
    assert dechunk(rest) == truth(server).body


@checks("chunked-broken")
def _(server: WireServer) -> None:
    for argument, tail in (("size", b"zz\r\nabc\r\n0\r\n\r\n"), ("huge", b"ffffffffffffffff\r\nabc"), ("cut", b"")):
        _, _, rest = framed(sent(server, f"chunked-broken={argument}"))
        assert rest.endswith(tail)
        with pytest.raises((ValueError, AssertionError)):
            dechunk(rest)


@checks("endless-headers")
def _(server: WireServer) -> None:
    server.fault("versions:endless-headers*1")
    with RawClient(server.address) as client:
        client.send(get_versions(server.address))
        while len(client.buffer) < 1024 * 1024:
            client._more()
        assert b"\r\n\r\n" not in client.buffer
    server.wait_for(lambda seen: seen.connections[0].ended is not None)  # it ends when nobody listens any more


def received_body(server: WireServer, fault: str) -> int:
    """How many bytes follow the head; they are not kept."""
    server.fault(f"versions:{fault}*1")
    with RawClient(server.address) as client:
        client.send(get_versions(server.address).having("Connection", "close"))
        while b"\r\n\r\n" not in client.buffer:
            client._more()
        size = len(client.buffer.partition(b"\r\n\r\n")[2])
        while chunk := client.socket.recv(1024 * 1024):
            size += len(chunk)
        return size


@checks("huge")
def _(server: WireServer) -> None:
    assert received_body(server, "huge") == HUGE_BYTES
    assert received_body(server, "huge=100000") == 100000


@checks("flood")
def _(server: WireServer) -> None:
    assert received_body(server, "flood") == ENDLESS_BYTES


@checks("gzip")
def _(server: WireServer) -> None:
    _, headers, body = framed(sent(server, "gzip"))
    assert headers["content-encoding"] == ["gzip"]
    assert gzip.decompress(body) == truth(server).body


@checks("bomb")
def _(server: WireServer) -> None:
    _, headers, body = framed(sent(server, "bomb"))
    assert headers["content-encoding"] == ["gzip"]
    assert len(body) < ENDLESS_BYTES // 100
    assert len(gzip.decompress(body)) == ENDLESS_BYTES


def wrong_content(name: str, is_so: Callable[[bytes, bytes], bool]) -> None:
    @checks(name)
    def _(server: WireServer) -> None:
        _, headers, body = framed(sent(server, name))
        assert headers["content-length"] == [str(len(body))]
        assert is_so(body, truth(server).body)


wrong_content("empty", lambda told, _: told == b"")
wrong_content("cut", lambda told, truly: truly.startswith(told) and 0 < len(told) < len(truly))
wrong_content("garbled", lambda told, truly: len(told) == len(truly) and told != truly)
wrong_content("stranger", lambda told, _: b"Versions" not in told and ET.fromstring(told) is not None)
wrong_content("laughs", lambda told, _: told.count(b"<!ENTITY") == 10)


@pytest.mark.parametrize("name", KINDS)
def test_each_fault_does_what_it_is_called(server: WireServer, name: str) -> None:
    """After it, the host is as before, and the client's requests were right all the time."""
    CHECKS[name](server)
    assert truth(server).status == 200
    assert server.refusals == ()
    assert {record.fault.split(":")[1].split("=")[0].split("*")[0] for record in server.records if record.fault} >= {
        name
    }


def test_faults_meet_the_requests_they_are_written_for(server: WireServer) -> None:
    server.fault("goalstate:status=500*1")
    server.fault("versions:status=503*2+1")
    server.fault("versions:status=429*1")
    statuses = [truth(server).status for _ in range(5)]
    assert statuses == [429, 503, 503, 200, 200]
    assert ask_once(server.address, get_goal_state(server.address)).status == 500
    assert server.faults.pending == ()


def test_a_fault_for_ever_lasts_until_it_is_cleared(server: WireServer) -> None:
    server.fault("any:status=503")
    assert [truth(server).status for _ in range(3)] == [503] * 3
    server.clear_faults()
    assert truth(server).status == 200


@pytest.mark.parametrize(
    "text",
    ["", "versions", "versions:no-such", "elsewhere:drop", "versions:status=abc", "versions:redirect", "any:drop*x"],
)
def test_a_misspelt_fault_is_an_error(server: WireServer, text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|none of|does not match"):
        server.fault(text)


@pytest.mark.parametrize("text", ["health:status=503*2", "any:drip=0.05+3", "versions:drop", "other:silence*1+1"])
def test_a_fault_is_written_as_it_is_read(text: str) -> None:
    assert str(Fault.parse(text)) == text


@pytest.mark.parametrize(
    ("fault", "acted"), [("status=503", False), ("reset", False), ("lost", True), ("truncate", True), ("gzip", True)]
)
def test_a_report_counts_when_only_its_answer_is_lost(server: WireServer, fault: str, acted: bool) -> None:
    ask_once(server.address, get_goal_state(server.address))
    server.fault(f"health:{fault}*1")
    with RawClient(server.address) as client:
        report = report_on(server.goal_state, "Ready")
        client.send(post_health(server.address, report).having("Connection", "close"))
        client.everything()
    assert (server.health is not None) == acted
    assert server.records[-1].verdict == ("accepted" if acted else "faulted")


def test_half_a_goal_state_was_not_fetched(server: WireServer) -> None:
    server.fault("goalstate:truncate*1")
    with RawClient(server.address) as client:
        client.send(get_goal_state(server.address))
        assert client.everything().startswith(b"HTTP/1.1 200")
    report = post_health(server.address, report_on(server.goal_state, "Ready"))
    assert ask_once(server.address, report).status == 400


def test_a_fault_does_not_hide_a_wrong_request(server: WireServer) -> None:
    server.fault("goalstate:status=503")
    wrong = get_goal_state(server.address).having("x-ms-version", "1")
    assert ask_once(server.address, wrong).status == 503
    assert [record.verdict for record in server.records] == ["refused"]


def test_connections_are_refused_for_a_while(server: WireServer) -> None:
    """The port stays the host's; connections that stand are kept; it listens again by itself or when told."""
    with RawClient(server.address) as kept:
        assert kept.ask(get_versions(server.address)).status == 200
        server.fault("any:refuse")
        with pytest.raises(ConnectionRefusedError):
            RawClient(server.address)
        assert kept.ask(get_versions(server.address)).status == 200
    server.clear_faults()
    assert truth(server).status == 200
    server.fault("any:refuse=0.2")
    refused = 0
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert truth(server).status == 200
            break
        except ConnectionRefusedError:
            refused += 1
    assert refused > 0
    assert len(server.connections) == 3
