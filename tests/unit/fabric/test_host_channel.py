# SPDX-License-Identifier: Apache-2.0
"""The emulated host's secure channel: it lets pass what is signed as it has to be, and refuses all else by its rule."""

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from tests.fabric.host_signature import AUTHORIZATION, signature, written
from tests.fabric.wire_book import CHANNEL_RULES
from tests.fabric.wire_client import (
    Draft,
    RawClient,
    Reply,
    ask_once,
    get,
    get_goal_state,
    get_versions,
    post,
    post_health,
    report_on,
)
from tests.fabric.wireserver import WireServer

CLAIMS = ("x-ms-azure-host-claims", '{ "isRoot": "true"}')
DATE = "x-ms-azure-host-date"


@dataclass(frozen=True)
class Key:
    guid: str
    key: str


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as running:
        running.set_channel("enforce")
        yield running


def now(server: WireServer) -> str:
    return written(server.recording.clock.wall())


def about(server: WireServer, path: str, method: str = "GET", body: bytes = b"") -> Draft:
    """A request about the channel, unsigned."""
    size = ("Content-Length", str(len(body)))
    draft = get(server.address, f"/secure-channel{path}", ("Metadata", "True"), size, (DATE, now(server)), CLAIMS)
    return replace(draft, method=method, body=body)


def ask_for_key(server: WireServer) -> Draft:
    body = b'{"authorizationScheme": "Azure-HMAC-SHA256"}'
    return about(server, "/key", "POST", body).adding("Content-Type", "application/json")


def attestation(server: WireServer, key: Key) -> Draft:
    return about(server, f"/key/{key.guid}/key-attestation", "POST")


def signed(draft: Draft, key: Key) -> Draft:
    """The draft with a signature; date and claims are there already."""
    told = signature(key.key, draft.method, draft.target, draft.headers, draft.body)
    return draft.adding(AUTHORIZATION, f"Azure-HMAC-SHA256 {key.guid} {told}")


def dated(server: WireServer, draft: Draft) -> Draft:
    return draft.adding(DATE, now(server)).adding(*CLAIMS)


def new_key(server: WireServer) -> Key:
    told = json.loads(ask_once(server.address, ask_for_key(server)).body)
    return Key(told["guid"], told["key"])


def latched(server: WireServer) -> Key:
    key = new_key(server)
    assert ask_once(server.address, signed(attestation(server, key), key)).status == 200
    return key


def test_a_key_is_latched_and_then_everything_has_to_be_signed(server: WireServer) -> None:
    status = json.loads(ask_once(server.address, about(server, "/status")).body)
    assert (status["keyGuid"], status["version"], status["secureChannelEnabled"]) == (None, "2.0", True)
    assert ask_once(server.address, get_goal_state(server.address)).status == 200  # nobody could sign so far
    key = latched(server)
    assert json.loads(ask_once(server.address, about(server, "/status")).body)["keyGuid"] == key.guid
    with RawClient(server.address) as client:
        for draft in (
            get_versions(server.address),
            get_goal_state(server.address),
            post_health(server.address, report_on(server.goal_state, "Ready")),
        ):
            assert client.ask(signed(dated(server, draft), key)).status == 200
    assert list(server.refusals) == []
    assert ask_once(server.address, get_goal_state(server.address)).status == 403
    assert server.refusals[-1].rule == "signature-given"


@pytest.mark.parametrize("words", ["off", "audit", "disabled"])
def test_elsewhere_the_unsigned_pass_and_the_forged_do_not(server: WireServer, words: str) -> None:
    key = latched(server)
    server.set_channel(words)
    assert ask_once(server.address, get_goal_state(server.address)).status == 200
    forged = signed(dated(server, get_goal_state(server.address)), Key(key.guid, "00" * 32))
    assert ask_once(server.address, forged).status == 403


def test_callers_are_told_apart_by_their_address(server: WireServer) -> None:
    """A key latched for one of them is none of the other's."""
    key = latched(server)
    server.name_caller("127.0.0.2", "container")
    server.set_channel("audit", identity="container")

    def from_elsewhere(draft: Draft) -> Reply:
        with RawClient(server.address) as client:
            client.socket.close()
            client.socket = socket.create_connection(server.address, 5, source_address=("127.0.0.2", 0))
            return client.ask(draft)

    ours = signed(dated(server, get_goal_state(server.address)), key)
    assert ask_once(server.address, ours).status == 200
    assert from_elsewhere(ours).status == 403
    assert server.refusals[-1].rule == "signature-key"
    assert json.loads(from_elsewhere(about(server, "/status")).body)["keyGuid"] is None
    assert from_elsewhere(get_goal_state(server.address)).status == 200
    assert server.channel("container").latched == ""


Make = Callable[[WireServer], Draft]


def from_signed(spoil: Callable[[WireServer, Draft], Draft]) -> Make:
    """A request that is right and signed, spoiled after that."""

    def make(server: WireServer) -> Draft:
        key = latched(server)
        return spoil(server, signed(dated(server, get_goal_state(server.address)), key))

    return make


def before_signing(spoil: Callable[[WireServer, Draft], Draft]) -> Make:
    """A request that is wrong, and signed as it is."""

    def make(server: WireServer) -> Draft:
        key = latched(server)
        return signed(spoil(server, dated(server, get_goal_state(server.address))), key)

    return make


def never_signed(method: str, target: str) -> Make:
    def make(server: WireServer) -> Draft:
        key = latched(server)
        return signed(dated(server, replace(post(server.address, target, b"x"), method=method)), key)

    return make


def clock_off(seconds: float) -> Make:
    def spoil(server: WireServer, draft: Draft) -> Draft:
        return draft.having(DATE, written(server.recording.clock.wall() + seconds))

    return before_signing(spoil)


def with_another_key(server: WireServer) -> Draft:
    other = new_key(server)
    latched(server)
    return signed(dated(server, get_goal_state(server.address)), other)


def twice(server: WireServer) -> Draft:
    return signed(attestation(server, key := latched(server)), key)


NOBODYS = Key(f"{0:08}-{0:04}-{0:04}-{0:04}-{0:012}", "00" * 32)
WRONGS: list[tuple[str, Make]] = [
    ("signature-never", never_signed("PUT", "/vmAgentLog")),
    ("signature-never", never_signed("POST", "/machine/?comp=telemetrydata")),
    ("signature-given", from_signed(lambda _, draft: draft.having(AUTHORIZATION, None))),
    ("signature-given", lambda server: attestation(server, new_key(server))),
    ("signature-form", from_signed(lambda _, draft: draft.having(AUTHORIZATION, "Bearer 0a"))),
    ("signature-form", from_signed(lambda _, draft: replace(draft, headers=draft.headers[:-1]).adding(
        AUTHORIZATION, draft.headers[-1][1].replace("SHA256", "SHA512")))),
    ("signature-key", with_another_key),
    ("signature-key", lambda server: signed(attestation(server, new_key(server)), new_key(server))),
    ("signature-key", lambda server: signed(attestation(server, NOBODYS), NOBODYS)),
    ("signature-right", from_signed(lambda _, draft: draft.adding("x-more", "1"))),
    ("signature-right", from_signed(lambda _, draft: draft.having("User-Agent", "other"))),
    ("signature-right", from_signed(lambda _, draft: replace(draft, target="/machine/?comp=goalstate&comp=x"))),
    ("signature-right", from_signed(lambda _, draft: replace(draft, method="PUT").adding("Content-Length", "0"))),
    ("channel-date", clock_off(301)),
    ("channel-date", clock_off(-301)),
    ("channel-date", before_signing(lambda _, draft: draft.having(DATE, None))),
    ("channel-date", lambda server: about(server, "/status").having(DATE, "2026-11-23T08:11:07Z")),
    ("channel-claims", before_signing(lambda _, draft: draft.having(CLAIMS[0], None))),
    ("channel-claims", lambda server: about(server, "/status").having(CLAIMS[0], '{"isRoot": "false"}')),
    ("channel-metadata", lambda server: about(server, "/status").having("Metadata", None)),
    ("channel-length", lambda server: about(server, "/status").having("Content-Length", None)),
    ("channel-wanted", lambda server: ask_for_key(server).having("Content-Type", "text/json")),
    ("channel-wanted", lambda server: about(server, "/key", "POST", b"{}").adding("Content-Type", "application/json")),
    ("channel-on", lambda server: (latched(server), ask_for_key(server))[1]),
    ("channel-on", twice),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "make"), WRONGS)
def test_what_is_wrong_is_refused_by_its_rule(server: WireServer, rule: str, make: Make) -> None:
    draft = make(server)
    assert list(server.refusals) == []
    assert ask_once(server.address, draft).status in {400, 403, 409}
    (refusal,) = server.refusals
    assert refusal.rule == rule
    assert rule not in refusal.passed


def test_every_rule_refuses_something() -> None:
    assert {rule for rule, _ in WRONGS} == set(CHANNEL_RULES)


def test_a_host_without_the_channel_has_no_such_resource(server: WireServer) -> None:
    server.set_channel("absent")
    assert ask_once(server.address, about(server, "/status")).status == 404
    assert list(server.refusals) == []
    assert ask_once(server.address, ask_for_key(server)).status == 409
    with pytest.raises(ValueError, match="says nothing"):
        server.set_channel("on")
