# SPDX-License-Identifier: Apache-2.0
"""The WireServer client as a whole: attempts, what ends a request, what `ps` can tell, giving up."""

import pytest

from ipc.errors import ConfigError, HostRefused, HostUnreachable, ResourceGone
from supervisor.loop import Loop
from supervisor.wire.connection import Limits
from supervisor.wire.host import Patience, WireServer
from supervisor.wire.report import RoleIds
from supervisor.wire.retry import RetryPolicy
from tests.unit.wire.scripted_server import GOAL_STATE, Peer, Script, ScriptedServer, always, answer, once
from tests.unit.wire.turning import Run, finish, turn_until

IDS = RoleIds("1", "container", "instance")
SHORT = RetryPolicy(attempts=3, delay_s=0.01, throttled_delay_s=0.001, throttled_attempts=5)
PATIENCE = Patience(limits=Limits(connect_s=0.5, silence_s=0.3, answer_s=0.6), questions=SHORT, reports=SHORT)


def host(loop: Loop, server: ScriptedServer) -> WireServer:
    """A client of `server`."""
    return WireServer(loop, "127.0.0.1", port=server.port, patience=PATIENCE)


def in_turn(*answers: bytes) -> Script:
    """One answer after the other on one connection, then silence until the client goes."""

    def script(peer: Peer) -> None:
        for content in answers:
            if peer.request():
                peer.send(content)
        peer.end()

    return script


def test_documents_come_as_they_are(run: Run[bytes], loop: Loop) -> None:
    with ScriptedServer(in_turn(answer(b"\xef\xbb\xbf<Versions/>"), answer())) as server:
        wire = host(loop, server)
        assert run(wire.fetch_versions()) == b"\xef\xbb\xbf<Versions/>"
        assert run(wire.fetch_goal_state()) == GOAL_STATE
        wire.close()
    assert b"\r\nHost: 127.0.0.1:" + str(server.port).encode() + b"\r\n" in server.requests[0]


@pytest.mark.parametrize("address", ["", "localhost", "host.example", "::1", "255.255.255.255"])
def test_names_are_never_looked_up(loop: Loop, address: str) -> None:
    with pytest.raises(ConfigError, match="is no IPv4 address of a host"):
        WireServer(loop, address)


def test_unchanged_goal_state_is_the_same_object(run: Run[bytes], loop: Loop) -> None:
    with ScriptedServer(in_turn(answer(b"one"), answer(b"one"), answer(b"two"))) as server:
        wire = host(loop, server)
        first = run(wire.fetch_goal_state())
        assert run(wire.fetch_goal_state()) is first
        assert run(wire.fetch_goal_state()) == b"two"
        wire.close()


def test_health_report_is_sent_until_accepted(run: Run[None], loop: Loop) -> None:
    with ScriptedServer(in_turn(answer(b"", "500 No"), answer(b"", "200 OK"))) as server:
        wire = host(loop, server)
        run(wire.report_health(IDS, "NotReady", "Provisioning", "Starting"))
        wire.close()
    first, second = server.requests
    assert first == second
    assert first.startswith(b"POST /machine?comp=health HTTP/1.1\r\n")
    assert b"<SubStatus>Provisioning</SubStatus><Description>Starting</Description>" in first


def test_role_properties_are_taken_by_202_alone(run: Run[None], loop: Loop) -> None:
    with ScriptedServer(in_turn(answer(b"", "503 Busy"), answer(b"", "202 Accepted"), answer(b"", "200 OK"))) as server:
        wire = host(loop, server)
        run(wire.report_role_properties(IDS, {"CertificateThumbprint": "SHA256x"}))
        with pytest.raises(HostRefused, match=r"^POST /machine\?comp=roleProperties: HTTP status 200$"):
            run(wire.report_role_properties(IDS, {}))
        wire.close()
    head, _, body = server.requests[1].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /machine?comp=roleProperties HTTP/1.1\r\n")
    assert b"\r\nx-ms-agent-name: WALinuxAgent\r\nx-ms-version: 2012-11-30\r\n" in head
    assert b"\r\nContent-Type: text/xml;charset=utf-8" in head
    assert body.endswith(b"</RoleProperties>")


def test_attempts_end_with_the_last_status(run: Run[bytes], loop: Loop) -> None:
    with ScriptedServer(always(answer(b"", "500 No"))) as server:
        wire = host(loop, server)
        with pytest.raises(
            HostRefused, match=r"^GET /machine/\?comp=goalstate, 3 attempts: HTTP status 500$"
        ) as caught:
            run(wire.fetch_goal_state())
        wire.close()
    assert caught.value.status == 500
    assert len(server.requests) == 3


def test_attempts_end_with_the_last_silence(run: Run[bytes], loop: Loop) -> None:
    with ScriptedServer(*[once(b"")] * 3) as server:
        wire = host(loop, server)
        with pytest.raises(HostUnreachable, match=r"^GET /\?comp=versions: closed without an answer \(3 attempts\)$"):
            run(wire.fetch_versions())
        assert wire.status().last_error == "GET /?comp=versions: closed without an answer"
    assert server.accepted == 3


def test_throttling_host_is_asked_more_often_in_short_steps(run: Run[bytes], loop: Loop) -> None:
    throttled = answer(b"", "429 Too Many Requests")
    with ScriptedServer(in_turn(*[throttled] * 4, answer())) as server:
        wire = host(loop, server)
        assert run(wire.fetch_goal_state()) == GOAL_STATE
        wire.close()
    with ScriptedServer(always(throttled)) as server:
        wire = host(loop, server)
        with pytest.raises(HostRefused, match="5 attempts: HTTP status 429"):
            run(wire.fetch_goal_state())
        wire.close()


@pytest.mark.parametrize(
    "content", [answer(b"", "410 Gone"), answer(b"<Code>InvalidContainerConfiguration</Code>", "400 Bad Request")]
)
def test_gone_ends_at_once(run: Run[None], loop: Loop, content: bytes) -> None:
    with ScriptedServer(always(content)) as server:
        wire = host(loop, server)
        with pytest.raises(ResourceGone, match=r"POST /machine\?comp=health: HTTP status 4.0, the ids"):
            run(wire.report_health(IDS, "Ready"))
        wire.close()
    assert len(server.requests) == 1


def test_redirect_is_a_refusal_and_not_followed(run: Run[bytes], loop: Loop) -> None:
    with ScriptedServer(always(answer())) as elsewhere:
        target = f"Location: http://127.0.0.1:{elsewhere.port}/"
        with ScriptedServer(always(answer(b"", "302 Found", target))) as server:
            wire = host(loop, server)
            with pytest.raises(HostRefused, match=r"GET /machine/\?comp=goalstate: HTTP status 302"):
                run(wire.fetch_goal_state())
            wire.close()
    assert len(server.requests) == 1
    assert elsewhere.accepted == 0


def test_delays_pass_through_the_jitter(run: Run[bytes], loop: Loop) -> None:
    asked: list[float] = []

    def jitter(delay_s: float) -> float:
        asked.append(delay_s)
        return 0.0

    with ScriptedServer(always(answer(b"", "500 No"))) as server:
        wire = WireServer(loop, "127.0.0.1", port=server.port, jitter=jitter)
        with pytest.raises(HostRefused):
            run(wire.fetch_goal_state())
        wire.close()
    assert asked == [2, 3, 5, 8, 13]


def test_status_tells_what_is_being_tried(run: Run[bytes], loop: Loop) -> None:
    patient = Patience(limits=PATIENCE.limits, questions=RetryPolicy(delay_s=1000.0, longest_delay_s=3000.0))
    with ScriptedServer(always(answer(b"", "502 No"))) as server:
        wire = WireServer(loop, "127.0.0.1", port=server.port, patience=patient)
        assert wire.status().last_answer_at is None
        task = loop.start("goal state", wire.fetch_goal_state())
        task.when_done(lambda: None)
        turn_until(loop, lambda: bool(wire.status().troubles))
        (trouble,) = wire.status().troubles
        assert trouble.what == "GET /machine/?comp=goalstate"
        assert trouble.error == "GET /machine/?comp=goalstate: HTTP status 502"
        assert trouble.attempts == 1
        assert 1990 < trouble.next_try_at - loop.clock.monotonic() <= 2000
        wire.close()
        with pytest.raises(HostUnreachable, match="502; given up on our side"):
            finish(loop, task)
        assert wire.status().troubles == ()
        with pytest.raises(HostUnreachable, match="given up on our side"):
            run(wire.fetch_versions())
    assert len(server.requests) == 1


def test_polling_goes_on_while_a_report_waits_for_its_next_try(run: Run[bytes], loop: Loop) -> None:
    patient = Patience(limits=PATIENCE.limits, questions=SHORT, reports=RetryPolicy(delay_s=1000.0))
    with ScriptedServer(in_turn(answer(b"", "500 No"), answer())) as server:
        wire = WireServer(loop, "127.0.0.1", port=server.port, patience=patient)
        task = loop.start("report", wire.report_health(IDS, "Ready"))
        task.when_done(lambda: None)
        turn_until(loop, lambda: bool(wire.status().troubles))
        assert run(wire.fetch_goal_state()) == GOAL_STATE
        status = wire.status()
        assert status.connected
        assert status.last_answer_at is not None
        wire.close()
        with pytest.raises(HostUnreachable, match="500; given up on our side"):
            finish(loop, task)
