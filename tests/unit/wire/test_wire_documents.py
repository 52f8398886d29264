# SPDX-License-Identifier: Apache-2.0
"""Documents by the goal state's URLs, of this host alone; telemetry and observations, within the service's limits."""

import re
import threading
import time
from pathlib import Path

import pytest

from ipc.errors import HostRefused, HostUnreachable, ResourceGone
from supervisor.loop import Loop
from supervisor.wire.connection import Limits
from supervisor.wire.host import Patience, WireServer
from supervisor.wire.pace import Pace
from supervisor.wire.retry import RetryPolicy
from supervisor.wire.urls import ForeignUrl, shown, target_on
from tests.unit.wire.answering import AnsweringServer, Asked
from tests.unit.wire.scripted_server import Peer, ScriptedServer, always, answer
from tests.unit.wire.turning import Run

MIB = 1 << 20
SOON = RetryPolicy(attempts=3, delay_s=0.01, throttled_delay_s=0.02, throttled_attempts=3)
PATIENCE = Patience(
    limits=Limits(connect_s=0.5, silence_s=1.0, answer_s=5.0), documents=SOON, telemetry=SOON, urgent_telemetry=SOON
)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\nAgID\n-----END CERTIFICATE-----\n"
PATH = "/machine/7f3c/abc.role?comp=config&type=extensionsConfig&incarnation=1"


def peak_kib() -> int:
    """The most memory that this process has had since it was last asked to forget that."""
    (line,) = re.findall(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(line)


def client(loop: Loop, port: int) -> WireServer:
    return WireServer(loop, "127.0.0.1", port=port, patience=PATIENCE)


def test_a_document_is_fetched_by_its_url(run: Run[bytes], loop: Loop) -> None:
    with AnsweringServer(lambda _: answer(b"<Extensions/>")) as server:
        wire = client(loop, server.port)
        url = f"http://127.0.0.1:{server.port}{PATH}"
        assert run(wire.fetch(url, "ExtensionsConfig", MIB)) == b"<Extensions/>"
        assert run(wire.fetch_sealed(url, "certificates", MIB, CERTIFICATE, "DES_EDE3_CBC")) == b"<Extensions/>"
        wire.close()
    plain, sealed = server.requests
    assert (plain.method, plain.target) == ("GET", PATH)
    assert (plain.fields["x-ms-agent-name"], plain.fields["x-ms-version"]) == ("WALinuxAgent", "2012-11-30")
    assert "x-ms-cipher-name" not in plain.fields
    assert sealed.fields["x-ms-guest-agent-public-x509-cert"] == "MIIBAgID"
    assert sealed.fields["x-ms-cipher-name"] == "DES_EDE3_CBC"
    assert server.connections == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/metadata", "http://127.0.0.1/machine", "http://127.0.0.1:81/", "https://127.0.0.1:80/",
        "http://user@127.0.0.1:80/", "http://127.0.0.1:80@evil.example/", "http://127.0.0.1.evil.example:80/",
        "http://[::1]:80/", "file:///etc/shadow", "//127.0.0.1:80/", "", "/machine", "http://127.0.0.1:80/a b",
        "http://127.0.0.1:80/a\r\nX: y", "http://127.0.0.1:80/#f", "http://127.0.0.1:80\\@x/", "http://localhost:80/",
        "http://127.0.0.1:80/ü", "http://0177.0.0.1:80/", "http://127.0.0.1:080000/",
    ],
)  # fmt: skip
def test_nobody_but_the_sender_is_asked(url: str) -> None:
    with pytest.raises(ForeignUrl, match=r"^SharedConfig: the host sent the URL .*; it is not fetched$"):
        target_on(url, "127.0.0.1", 8080 if "127.0.0.1/" in url else 80, "SharedConfig")


def test_a_foreign_url_opens_no_connection(loop: Loop) -> None:
    with AnsweringServer(lambda _: answer()) as server:
        wire = client(loop, server.port)
        fetching = loop.start("fetch", wire.fetch("http://10.0.0.1/x?sig=abc", "SharedConfig", MIB), at_once=True)
        with pytest.raises(ForeignUrl, match=r"'http://10\.0\.0\.1/x', and is asked only"):
            fetching.result()
        wire.close()
    assert server.connections == 0


def test_an_error_text_has_no_query() -> None:
    assert shown("https://me:word@host.example/a/b?sig=secret#x") == "https://host.example/a/b"
    assert shown("no url sig=1?sig=secret") == "no url sig=1"
    assert len(shown("http://x/" + "y" * 5000)) < 250


def test_a_document_of_a_gone_container_is_told(run: Run[bytes], loop: Loop) -> None:
    with ScriptedServer(always(answer(b"", "410 Gone"))) as server:
        wire = client(loop, server.port)
        with pytest.raises(ResourceGone, match=r"^GET SharedConfig: HTTP status 410"):
            run(wire.fetch(f"http://127.0.0.1:{server.port}/x", "SharedConfig", MIB))
        wire.close()


@pytest.mark.parametrize("told", [True, False])
def test_eight_mib_of_junk_cost_no_memory(run: Run[bytes], loop: Loop, told: bool) -> None:
    """Refused at its head, or as soon as more than the limit has come; nothing of it stays."""
    head = f"Content-Length: {8 * MIB}" if told else "Transfer-Encoding: chunked"

    def junk(peer: Peer) -> None:
        peer.request()
        peer.send(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode())
        piece = bytes(MIB // 16)
        peer.flood(piece if told else f"{len(piece):x}\r\n".encode() + piece + b"\r\n", 128)

    with ScriptedServer(*[junk] * 6) as server:
        wire = client(loop, server.port)
        url = f"http://127.0.0.1:{server.port}/x"
        before = 0
        for _ in range(2):
            Path("/proc/self/clear_refs").write_text("5")
            before = peak_kib()
            with pytest.raises(HostUnreachable, match=r"^GET ExtensionsConfig: answer longer than 2097152 bytes"):
                run(wire.fetch(url, "ExtensionsConfig", 2 * MIB))
        grown_kib = peak_kib() - before
        wire.close()
    assert grown_kib <= 1024


def test_telemetry_is_tried_three_times_and_told_apart(run: Run[None], loop: Loop) -> None:
    with AnsweringServer(lambda asked: answer(b"", "429 Too Many" if b"no" in asked.body else "200 OK")) as server:
        wire = client(loop, server.port)
        run(wire.post_telemetry(b"<TelemetryData/>", urgent=False))
        with pytest.raises(HostRefused, match=r"3 attempts: HTTP status 429"):
            run(wire.post_telemetry(b"no", urgent=True))
        run(wire.post_observations(b"{}"))
        wire.close()
    first, *refused, last = server.requests
    assert (first.method, first.target) == ("POST", "/machine/?comp=telemetrydata")
    assert first.fields["content-type"] == "text/xml;charset=utf-8"
    assert len(refused) == 3
    assert (last.target, last.fields["content-type"]) == ("/HealthService", "application/json")
    assert "x-ms-agent-name" not in last.fields


def test_telemetry_holds_up_no_question(run: Run[object], loop: Loop) -> None:
    """A service that does not answer has a connection of its own."""
    release = threading.Event()

    def respond(asked: Asked) -> bytes:
        if asked.method == "POST":
            release.wait(5)
        return answer()

    with AnsweringServer(respond) as server:
        wire = client(loop, server.port)
        posted = loop.start("telemetry", wire.post_telemetry(b"x", urgent=True))
        began = time.monotonic()
        run(wire.fetch_goal_state())
        assert time.monotonic() - began < 0.5
        assert not posted.done
        release.set()
        run(loop.settled(posted))
        wire.close()


def test_no_more_calls_than_the_service_takes(run: Run[object], loop: Loop) -> None:
    pace = Pace(loop, 3, 0.2)
    times = []

    async def call() -> None:
        for _ in range(7):
            await pace.turn()
            times.append(time.monotonic())

    run(call())
    assert times[2] - times[0] < 0.1
    assert all(later - earlier >= 0.19 for earlier, later in zip(times, times[3:], strict=False))


def test_goal_state_documents_come_back_soon() -> None:
    """The next poll is the real patience: a fault's end must not find us waiting for long."""
    policy = Patience().documents
    assert (policy.attempts, policy.throttled_attempts, policy.longest_delay_s) == (3, 3, 1.0)
