# SPDX-License-Identifier: Apache-2.0
"""The emulated WireServer accepts what the reference agent sends, and refuses, by name, everything that is not that."""

import socket
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest

from tests.fabric.config_documents import CONFIG_DOCUMENTS
from tests.fabric.documents import GoalState, RoleProperties, read_role_properties
from tests.fabric.wire_book import RULES, Trial
from tests.fabric.wire_client import (
    Draft,
    RawClient,
    ask_once,
    get,
    get_goal_state,
    get_versions,
    post_health,
    report_on,
)
from tests.fabric.wire_rules import Offer
from tests.fabric.wire_wrongs import RIGHT, WRONGS, Wrong
from tests.fabric.wireserver import Options, WireServer


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer(options=Options(patience_s=0.3)) as running:
        yield running


def fetched(server: WireServer) -> GoalState:
    """The current goal state, after a client has fetched it."""
    assert ask_once(server.address, get_goal_state(server.address)).status == 200
    return server.goal_state


def ready(server: WireServer) -> Draft:
    return post_health(server.address, report_on(server.goal_state, "Ready"))


def test_the_whole_conversation_of_the_reference_agent(server: WireServer) -> None:
    versions = ask_once(server.address, get_versions(server.address).having("Connection", "close"))
    goal_state = fetched(server)
    starting = report_on(goal_state, "NotReady", "Provisioning", "Starting")
    assert versions.status == 200
    assert versions.headers["connection"] == "close"
    assert ET.fromstring(versions.body).findtext("Preferred/Version") == "2012-11-30"
    assert ask_once(server.address, post_health(server.address, starting)).status == 200
    assert server.health == starting
    assert ask_once(server.address, RIGHT["roleproperties"](server)).status == 202
    assert server.role_properties[0].thumbprint == "SHA256kJ0u/+x9"
    assert ask_once(server.address, ready(server)).status == 200
    assert [report.state for report in server.health_reports] == ["NotReady", "Ready"]
    assert server.refusals == ()


def test_ready_may_follow_a_failure(server: WireServer) -> None:
    """A VM is repaired, or has provisioning switched off, after it said that provisioning failed."""
    failed = report_on(fetched(server), "NotReady", "ProvisioningFailed", "a < b & c")
    for report in (failed, report_on(server.goal_state, "Ready")):
        assert ask_once(server.address, post_health(server.address, report)).status == 200
    assert server.health_reports[0].description == "a < b & c"


def test_a_kept_connection_carries_many_requests(server: WireServer) -> None:
    with RawClient(server.address) as client:
        for draft in (get_versions(server.address), get_goal_state(server.address), ready(server)):
            assert client.ask(draft).status == 200
    assert [(record.connection, record.nth) for record in server.records] == [(1, 1), (1, 2), (1, 3)]
    assert server.connections[0].requests == 3


def test_the_goal_state_has_the_real_form(server: WireServer) -> None:
    reply = ask_once(server.address, get_goal_state(server.address))
    root = ET.fromstring(reply.body)
    goal_state = server.goal_state
    address = root.findtext(".//HostingEnvironmentConfig") or ""
    assert reply.headers["content-type"] == "text/xml; charset=utf-8"
    assert root.findtext("Incarnation") == "1"
    assert root.findtext("Container/ContainerId") == goal_state.container_id
    assert root.findtext(".//RoleInstance/InstanceId") == goal_state.instance_id
    assert address.startswith(f"http://{server.address[0]}:{server.address[1]}/machine/")
    assert address.endswith("?comp=config&type=hostingEnvironmentConfig&incarnation=1")
    assert (root.findtext(".//ConfigName") or "").split(".")[0] == goal_state.deployment_id


def test_a_role_instance_comes_late() -> None:
    """What lacks the role instance has not been fetched: nobody can report on it."""
    with WireServer(options=Options(Offer(incomplete=2, byte_order_mark=True))) as server:
        for _ in range(2):
            reply = ask_once(server.address, get_goal_state(server.address))
            assert reply.body.startswith(b"\xef\xbb\xbf<?xml")
            assert ET.fromstring(reply.body).find(".//RoleInstance") is None
            assert ask_once(server.address, ready(server)).status == 400
        fetched(server)
        assert ask_once(server.address, ready(server)).status == 200


def test_a_new_goal_state_makes_the_old_container_gone(server: WireServer) -> None:
    old = report_on(fetched(server), "Ready")
    published = server.publish()
    gone = ask_once(server.address, post_health(server.address, old))
    assert published.incarnation == 2
    assert gone.status == 410
    assert server.refusals[-1].why == "refused: ContainerId is that of an earlier goal state"
    new = report_on(published, "Ready")
    assert ask_once(server.address, post_health(server.address, new)).status == 400  # known, but not fetched
    fetched(server)
    assert ask_once(server.address, post_health(server.address, new)).status == 200


def test_an_earlier_incarnation_of_the_same_container_is_still_right(server: WireServer) -> None:
    """The agent reports on what it has processed, even when there is something newer."""
    old = report_on(fetched(server), "Ready")
    server.publish(new_container=False)
    assert ask_once(server.address, post_health(server.address, old)).status == 200


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: f"{wrong.rule}: {wrong.route}, {wrong.why}")
def test_a_wrong_request_is_refused_by_its_rule(wrong: Wrong) -> None:
    """What is right passes; spoiled, it is refused for the right reason and changes nothing; right again, it passes."""
    with WireServer(options=Options(wrong.offer or Offer(), patience_s=0.3)) as server:
        draft = RIGHT[wrong.route](server)
        accepted = 202 if wrong.route == "roleproperties" else 200
        if wrong.moment != "unfetched" and wrong.offer is None:
            fetched(server)
            assert ask_once(server.address, draft).status == accepted
        assert not server.refusals
        if wrong.moment == "superseded":
            server.publish()
        before = server.health_reports, server.role_properties
        reply = ask_once(server.address, wrong.spoil(draft))
        (refusal,) = server.refusals
        assert (refusal.rule, reply.status, refusal.status) == (wrong.rule, wrong.status, wrong.status)
        assert refusal.why.startswith("refused: ")
        assert wrong.why in refusal.why
        assert reply.body.decode() == refusal.why
        assert wrong.rule not in refusal.passed
        assert (server.health_reports, server.role_properties) == before
        if wrong.offer is None:
            fetched(server)
            assert ask_once(server.address, RIGHT[wrong.route](server)).status == accepted


def test_every_rule_refuses_something() -> None:
    """Beside the test above: no rule is in the book for show."""
    assert {wrong.rule for wrong in WRONGS} == set(RULES)


def test_a_rule_that_is_not_in_the_book_refuses_nothing() -> None:
    with pytest.raises(KeyError):
        Trial().demand("moon-phase", holds=True, why="")


@pytest.mark.parametrize("route", RIGHT)
def test_the_recording_tells_what_a_right_request_was_held_against(server: WireServer, route: str) -> None:
    fetched(server)
    ask_once(server.address, RIGHT[route](server))
    record = server.records[-1]
    assert (record.route, record.verdict, record.rule) == (route, "accepted", "")
    form = {"line-end", "request-line", "host-right", "http-version", "in-time", "emulated", "resource", "method"}
    assert form <= set(record.passed)
    assert ("agent-name" in record.passed) == (route != "versions")
    assert ("content-type" in record.passed) == (record.method == "POST") == ("length-given" in record.passed)
    assert ("no-body" in record.passed) == (record.method == "GET")
    assert ("transport-certificate" in record.passed) == (route == "certificates")
    assert ("address-current" in record.passed) == (route in CONFIG_DOCUMENTS)


def test_what_is_not_emulated_is_refused_aloud() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        elsewhere = ("127.0.0.1", free.getsockname()[1])
    with WireServer(options=Options(not_emulated=(elsewhere,))) as server:
        server.fault("any:status=503*1")  # not for that address
        reply = ask_once(elsewhere, get(elsewhere, "/vmSettings"))
        assert (reply.status, server.refusals[0].rule) == (404, "emulated")
        assert server.refusals[0].why == f"refused: not emulated: GET /vmSettings at 127.0.0.1:{elsewhere[1]}"
        assert ask_once(elsewhere, get(elsewhere, "/vmSettings").having("Host", "x")).status == 400
        assert server.refusals[1].rule == "host-right"


@pytest.mark.parametrize("cut", [3, 40, -5])
def test_a_request_that_breaks_off_is_recorded(server: WireServer, cut: int) -> None:
    fetched(server)
    with RawClient(server.address) as client:
        client.send(ready(server).encode()[:cut])
    server.wait_for(lambda seen: bool(seen.refusals))
    assert server.refusals[0].verdict == "broken"
    assert server.refusals[0].why.startswith("broken: the client closed within")
    assert server.health is None


def test_the_largest_description_passes(server: WireServer) -> None:
    """4096 bytes of the text itself: escapes don't count."""
    report = report_on(fetched(server), "NotReady", "ProvisioningFailed", "&" * 4096)
    assert ask_once(server.address, post_health(server.address, report)).status == 200


ROLE = RoleProperties("container", "instance", "SHA256kJ0u/+x9").xml()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("<RoleProperties>", '<RoleProperties a="b">', "not plain"),
        ("<Properties>", "<Properties>text", "not plain"),
        ("name=", "title=", "something else"),
        ("CertificateThumbprint", "CertificateFingerprint", "something else"),
        ("SHA256kJ0u/+x9", "", "is empty or has colons"),
        ("SHA256", "SHA256:", "is empty or has colons"),
    ],
)
def test_what_our_agent_sends_as_role_properties_is_read_strictly(old: str, new: str, why: str) -> None:
    assert read_role_properties(ROLE.encode()).thumbprint == "SHA256kJ0u/+x9"
    with pytest.raises(ValueError, match=why):
        read_role_properties(ROLE.replace(old, new, 1).encode())
