# SPDX-License-Identifier: Apache-2.0
"""The emulated WireServer accepts what the reference agent sends, and refuses, by name, everything that is not that."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from xml.etree import ElementTree as ET

import pytest

from tests.fabric.documents import HEALTH_ROOT, GoalState
from tests.fabric.wire_client import (
    Draft,
    RawClient,
    ask_once,
    get_goal_state,
    get_versions,
    post,
    post_health,
    report_on,
)
from tests.fabric.wire_rules import Offer
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


def role_properties(server: WireServer) -> Draft:
    ids = server.goal_state
    body = (
        f'<?xml version="1.0" encoding="utf-8"?><RoleProperties><Container>'
        f"<ContainerId>{ids.container_id}</ContainerId><RoleInstances><RoleInstance><Id>{ids.instance_id}</Id><Properties>"
        '<Property name="CertificateThumbprint" value="aa:bb" /></Properties></RoleInstance></RoleInstances>'
        "</Container></RoleProperties>"
    )
    return post(server.address, "/machine?comp=roleProperties", body.encode())


def test_the_whole_conversation_of_the_reference_agent(server: WireServer) -> None:
    versions = ask_once(server.address, get_versions(server.address).having("Connection", "close"))
    goal_state = fetched(server)
    starting = report_on(goal_state, "NotReady", "Provisioning", "Starting")
    assert versions.status == 200
    assert versions.headers["connection"] == "close"
    assert ET.fromstring(versions.body).findtext("Preferred/Version") == "2012-11-30"
    assert ask_once(server.address, post_health(server.address, starting)).status == 200
    assert server.health == starting
    assert ask_once(server.address, role_properties(server)).status == 202
    assert server.role_properties[0].properties == (("CertificateThumbprint", "aa:bb"),)
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


def test_a_host_without_our_version_gives_no_goal_state() -> None:
    with WireServer(options=Options(Offer(preferred="2015-04-05", supported=("2015-04-05",)))) as server:
        assert ask_once(server.address, get_goal_state(server.address)).status == 400
        assert "not offered" in server.refusals[0].why


def test_health_before_a_goal_state_is_refused(server: WireServer) -> None:
    assert ask_once(server.address, ready(server)).status == 400
    assert "before any goal state" in server.refusals[0].why
    fetched(server)
    assert ask_once(server.address, ready(server)).status == 200


Spoil = Callable[[Draft], Draft | bytes]


@dataclass(frozen=True)
class Wrong:
    """A way to spoil a right request, and the reason that must be recorded."""

    why: str
    spoil: Spoil
    status: int = 400


def replacing(old: str, new: str) -> Spoil:
    """Change the body and its Content-Length."""

    def spoil(draft: Draft) -> Draft:
        body = draft.body.replace(old.encode(), new.encode(), 1)
        assert body != draft.body
        return replace(draft, body=body).having("Content-Length", str(len(body)))

    return spoil


def bare_newlines(draft: Draft) -> bytes:
    return draft.encode().replace(b"\r\n", b"\n")


def absolute(draft: Draft) -> Draft:
    return replace(draft, target=f"http://{dict(draft.headers)['Host']}{draft.target}")


READY, DETAILS = "<State>Ready</State>", "<Details><SubStatus>{}</SubStatus><Description>{}</Description></Details>"


def details(sub_status: str, description: str, state: str = "NotReady") -> Spoil:
    return replacing(READY, f"<State>{state}</State>" + DETAILS.format(sub_status, description))


WRONG_HEALTH = {
    "agent-name missing": Wrong("x-ms-agent-name is None", lambda d: d.having("x-ms-agent-name", None)),
    "agent-name wrong": Wrong("x-ms-agent-name is 'agent'", lambda d: d.having("x-ms-agent-name", "agent")),
    "version missing": Wrong("x-ms-version is None", lambda d: d.having("x-ms-version", None)),
    "version wrong": Wrong("x-ms-version is '2010-12-15'", lambda d: d.having("x-ms-version", "2010-12-15")),
    "content type missing": Wrong("Content-Type is None", lambda d: d.having("Content-Type", None)),
    "content type wrong": Wrong("Content-Type is 'text/xml'", lambda d: d.having("Content-Type", "text/xml")),
    "no length": Wrong("POST without Content-Length", lambda d: d.having("Content-Length", None)),
    "length too large": Wrong("silence for 0.3 s within a body", lambda d: d.having("Content-Length", "9999")),
    "length too small": Wrong("not well-formed", lambda d: d.having("Content-Length", "40")),
    "length negative": Wrong("Content-Length '-1'", lambda d: d.having("Content-Length", "-1")),
    "length no number": Wrong("Content-Length 'many'", lambda d: d.having("Content-Length", "many")),
    "length beyond limit": Wrong("Content-Length '99999999'", lambda d: d.having("Content-Length", "99999999")),
    "two lengths": Wrong("more than one Content-Length", lambda d: d.adding("Content-Length", "1")),
    "chunked": Wrong("Transfer-Encoding", lambda d: d.adding("Transfer-Encoding", "chunked")),
    "expect": Wrong("Expect", lambda d: d.adding("Expect", "100-continue")),
    "namespace wrong": Wrong("the root is not Health", replacing('XMLSchema"', 'Schema"')),
    "namespace missing": Wrong("the root is not Health", replacing(f' xmlns:xsd="{HEALTH_ROOT["xmlns:xsd"]}"', "")),
    "root wrong": Wrong("the root is not Health", lambda d: replacing(d.body.decode(), "<Health/>")(d)),
    "not XML": Wrong("not well-formed", replacing("</State>", "</Sate>")),
    "DTD": Wrong("has a DTD", replacing("<Health xmlns", "<!DOCTYPE Health><Health xmlns")),
    "no state": Wrong("Health holds no element", replacing(READY, "")),
    "unknown state": Wrong("State 'Busy' is neither", replacing("Ready<", "Busy<")),
    "attribute": Wrong("State has attributes", replacing("<State>", '<State a="b">')),
    "stray text": Wrong("Role has text", replacing("<Role>", "<Role>now")),
    "one more element": Wrong(
        "holds GoalStateIncarnation, More, Container", replacing("<Container>", "<More/><Container>")
    ),
    "incarnation": Wrong("never fetched", replacing("Incarnation>1<", "Incarnation>7<")),
    "incarnation padded": Wrong("never fetched", replacing("Incarnation>1<", "Incarnation>01<")),
    "container": Wrong("was never issued", replacing("<ContainerId>", "<ContainerId>x")),
    "instance": Wrong("is not the current one", replacing("<InstanceId>", "<InstanceId>x")),
    "Ready with details": Wrong("without Details", details("Provisioning", "Starting", "Ready")),
    "NotReady without": Wrong("needs Details", replacing("Ready<", "NotReady<")),
    "sub-status": Wrong("SubStatus 'Done' is none of", details("Done", "Starting")),
    "description empty": Wrong("Description is empty", details("Provisioning", " ")),
    "description large": Wrong("4098 bytes", details("ProvisioningFailed", "\u00e9" * 2049)),
}

MANY = tuple((f"x-{number}", "1") for number in range(64))
WRONG_FORM = {
    "absolute form": Wrong("absolute form", absolute),
    "no host": Wrong("Host header is missing", lambda d: d.having("Host", None)),
    "other host": Wrong("Host 'localhost'", lambda d: d.having("Host", "localhost")),
    "HTTP/1.0": Wrong("HTTP/1.0 instead", lambda d: replace(d, version="HTTP/1.0")),
    "HTTP/2": Wrong("not a request line", lambda d: replace(d, version="HTTP/2")),
    "duplicate": Wrong("x-ms-version given more than once", lambda d: d.adding("X-MS-Version", "2012-11-30")),
    "bare newlines": Wrong("CRLF", bare_newlines),
    "space before colon": Wrong("not a header", lambda d: d.adding("x-more ", "1")),
    "folded header": Wrong("not a header", lambda d: d.adding(" folded", "1")),
    "not ASCII": Wrong("not printable ASCII", lambda d: d.adding("x-more", "\u00e9")),
    "long line": Wrong("longer than", lambda d: d.adding("x-more", "x" * 9000)),
    "many headers": Wrong("more than 64", lambda d: replace(d, headers=d.headers + MANY)),
    "upgrade": Wrong("Connection 'upgrade'", lambda d: d.having("Connection", "upgrade")),
    "body with GET": Wrong("GET with a body", lambda d: replace(d.having("Content-Length", "1"), body=b"x")),
    "other path": Wrong("no such resource", lambda d: replace(d, target="/machine?comp=goalstate"), 404),
    "other method": Wrong("no such resource", lambda d: replace(d, method="DELETE"), 404),
}


def must_refuse(server: WireServer, draft: Draft, wrong: Wrong) -> None:
    """`draft` passes, spoiled it is refused for the right reason and changes nothing, and passes again."""
    accepted = ask_once(server.address, draft)
    assert accepted.status in {200, 202}
    assert not server.refusals
    before = server.health_reports
    reply = ask_once(server.address, wrong.spoil(draft))
    assert reply.status == wrong.status
    assert server.refusals[0].why.startswith("refused: ")
    assert wrong.why in server.refusals[0].why
    assert reply.body.decode() == server.refusals[0].why
    assert server.health_reports == before
    assert ask_once(server.address, draft).status == accepted.status


@pytest.mark.parametrize("case", WRONG_HEALTH)
def test_a_wrong_health_report_is_refused(server: WireServer, case: str) -> None:
    fetched(server)
    must_refuse(server, ready(server), WRONG_HEALTH[case])


@pytest.mark.parametrize("case", WRONG_FORM)
def test_a_wrong_request_is_refused(server: WireServer, case: str) -> None:
    must_refuse(server, get_goal_state(server.address), WRONG_FORM[case])


@pytest.mark.parametrize(
    ("why", "spoil"),
    [
        ("plain RoleProperties", replacing("<RoleProperties>", '<RoleProperties a="b">')),
        ("no Property", replacing('name="CertificateThumbprint"', 'title="CertificateThumbprint"')),
        ("never issued", replacing("<ContainerId>", "<ContainerId>x")),
        ("not the current one", replacing("<Id>", "<Id>x")),
    ],
)
def test_wrong_role_properties_are_refused(server: WireServer, why: str, spoil: Spoil) -> None:
    fetched(server)
    must_refuse(server, role_properties(server), Wrong(why, spoil))


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
