# SPDX-License-Identifier: Apache-2.0
"""Host keys made known: the text for people, and the platform that takes it late, never, or after Ready."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ipc.messages import GoalState, HostKey, RoleInstance
from supervisor.births import Births
from supervisor.clock import Clock, SystemClock
from supervisor.contact import Contact
from supervisor.dispatch import Table
from supervisor.fingerprints import BEFORE_READY_S, Fingerprints, chosen, listed, thumbprint
from supervisor.fleet import Fleet
from supervisor.layout import Layout
from supervisor.loop import Loop
from supervisor.standing import Standing
from supervisor.wire.host import Patience, WireServer
from supervisor.wire.retry import RetryPolicy
from tests.unit.supervisor.turned import HandClock, run, turn_until
from tests.unit.wire.scripted_server import Peer, Script, ScriptedServer, answer

RSA = HostKey("rsa", 3072, "a/" * 21 + "b", "ssh-rsa AAAA root@vm with blanks")
ED25519 = HostKey("ed25519", 256, "c+" * 21 + "d", "ssh-ed25519 AAAA")
GOAL_STATE = GoalState("1", "container", "", RoleInstance("instance", "", "", "", "", ""))
# As the real one, but for the length of its steps.
QUICK = Patience(questions=RetryPolicy(attempts=3, delay_s=0.01, throttled_delay_s=0.01, throttled_attempts=3))
SLOW = Patience(questions=RetryPolicy(attempts=2, delay_s=BEFORE_READY_S))


class Announced:
    """What came of an announcement."""

    def __init__(self, loop: Loop, contact: Contact, host: WireServer) -> None:
        self.host = host
        self.said: list[str] = []
        self.shown: list[str] = []
        self.standing = Standing(loop.clock)
        self.fingerprints = Fingerprints(loop, contact, self._say, self.shown.extend, self.standing)

    def _say(self, level: str, source: str, text: str) -> None:
        self.said.append(f"{level} {source}: {text}")


@contextmanager
def announcer(
    script: Script, clock: Clock | None = None, patience: Patience = QUICK
) -> Iterator[tuple[Loop, Announced, ScriptedServer]]:
    loop = Loop(clock or SystemClock())
    ours, spawner = socket.socketpair()
    births = Births(loop, Table([]), ours, Layout(), lambda *_: None)
    fleet = Fleet(loop, {}, births, lambda: 0.5, lambda *_: None)
    with ScriptedServer(script) as server, ours, spawner:
        host = WireServer(loop, "127.0.0.1", port=server.port, patience=patience)
        contact = Contact(loop, fleet, lambda: host, lambda *_: None)
        contact.goal_state = GOAL_STATE
        yield loop, Announced(loop, contact, host), server
        host.close()


def answering(*statuses: str) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        for status in statuses:
            if peer.request():
                peer.send(answer(b"", status))
        peer.end()

    return script


def test_keys_are_listed_as_ssh_keygen_does_and_shown_in_blocks() -> None:
    assert listed(RSA) == f"3072 SHA256:{RSA.sha256} root@vm with blanks (RSA)"
    assert listed(ED25519) == f"256 SHA256:{ED25519.sha256} no comment (ED25519)"
    with announcer(answering()) as (_, announced, _):
        announced.fingerprints.show((RSA, ED25519))
        announced.fingerprints.show(())
    assert announced.said[:2] == [f"info provisioning: SSH host key: {listed(key)}" for key in (RSA, ED25519)]
    assert announced.said[2].startswith("warning provisioning: no SSH host keys")
    assert announced.shown == [
        "-----BEGIN SSH HOST KEY FINGERPRINTS-----",
        listed(RSA),
        listed(ED25519),
        "-----END SSH HOST KEY FINGERPRINTS-----",
        "-----BEGIN SSH HOST KEY KEYS-----",
        RSA.public,
        ED25519.public,
        "-----END SSH HOST KEY KEYS-----",
    ]


def test_the_platform_hears_of_the_configured_type_and_of_rsa_where_all_are_made() -> None:
    keys = (ED25519, RSA)
    assert [chosen(keys, word) for word in ("auto", "rsa", "ed25519")] == [RSA, RSA, ED25519]
    assert chosen(keys, "dsa") == ED25519
    assert chosen((ED25519,), "auto") == ED25519
    assert thumbprint(RSA) == f"SHA256{RSA.sha256}"
    assert ":" not in thumbprint(RSA)


def test_a_host_in_trouble_is_asked_again() -> None:
    with announcer(answering("500 No", "503 No", "202 Accepted")) as (loop, announced, server):
        run(loop, announced.fingerprints.report((RSA,), "auto"))
        assert len(server.requests) == 3
    assert announced.said == ["info host: accepted the SSH host key's fingerprint"]
    assert announced.standing.troubles == {}
    request = server.requests[-1]
    assert request.startswith(b"POST /machine?comp=roleProperties HTTP/1.1\r\n")
    assert f'name="CertificateThumbprint" value="SHA256{RSA.sha256}"'.encode() in request


def test_only_202_means_that_the_host_has_taken_it() -> None:
    for status, asked in (("200 OK", 1), ("404 No", 1), ("500 No", 3)):
        with announcer(answering(*[status] * 3)) as (loop, announced, server):
            run(loop, announced.fingerprints.report((RSA,), "auto"))
            assert len(server.requests) == asked
        assert announced.said[0].endswith(f"HTTP status {status[:3]}; not reported again")
        assert list(announced.standing.troubles) == ["role properties"]


def test_a_host_that_takes_its_time_holds_up_ready_only_so_long() -> None:
    clock = HandClock()
    with announcer(answering("500 No", "202 Accepted"), clock, SLOW) as (loop, announced, server):
        report = loop.start("test", announced.fingerprints.report((RSA,), "auto"))
        turn_until(loop, lambda: bool(announced.host.status().troubles))
        assert not report.done
        clock.now += BEFORE_READY_S
        turn_until(loop, lambda: report.done)
        assert "not accepted them yet" in announced.standing.troubles["role properties"]
        clock.now += SLOW.questions.delay_s * 2
        turn_until(loop, lambda: announced.standing.troubles == {})
        assert len(server.requests) == 2
    assert announced.said == ["info host: accepted the SSH host key's fingerprint"]
