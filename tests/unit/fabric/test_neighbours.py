# SPDX-License-Identifier: Apache-2.0
"""The emulated host's other services take what is right, refuse by name what is not, and keep what they took."""

import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest

from tests.fabric import neighbour_client as ask
from tests.fabric import publishing
from tests.fabric.blob_store import NOWHERE, STATUS
from tests.fabric.neighbours import Places
from tests.fabric.plan import Plan, Plugin
from tests.fabric.wire_book import BLOB_RULES, METADATA_RULES, PLUGIN_RULES, STATUS_RULES, TELEMETRY_RULES
from tests.fabric.wire_client import Draft, Reply, ask_once, get_goal_state
from tests.fabric.wireserver import Options, WireServer

HOME = "127.0.0.1"
LONG_STATUS = json.dumps(ask.status(supportedFeatures=[{"Key": "x" * 5000, "Value": "1.0"}])).encode()


def free() -> tuple[str, int]:
    """A port that nobody gets by chance meanwhile: below those that the kernel gives."""
    while True:
        place = (HOME, random.randrange(10_000, 30_000))
        with suppress(OSError), socket.create_server(place):
            return place


@dataclass
class Azure:
    """The host with all its services, and where they are; the storage account is spoken to in the clear."""

    server: WireServer
    places: Places

    @property
    def plugin(self) -> tuple[str, int]:
        assert self.places.plugin is not None
        return self.places.plugin

    @property
    def storage(self) -> tuple[str, int]:
        assert self.places.storage is not None
        return self.places.storage

    @property
    def metadata(self) -> tuple[str, int]:
        assert self.places.metadata is not None
        return self.places.metadata

    def url(self, permissions: str = "rw", path: str = STATUS) -> str:
        return self.server._state.blobs.url(path, permissions)

    def upload(self, headers: dict[str, str], content: bytes | None, more: str = "", permissions: str = "rw") -> Draft:
        return ask.upload(self.plugin, self.server.goal_state, self.url(permissions) + more, headers, content)

    def settings(self, etag: str = "") -> Reply:
        return ask_once(self.plugin, ask.vm_settings(self.plugin, self.server.goal_state, etag))


@pytest.fixture
def azure() -> Iterator[Azure]:
    places = Places(plugin=free(), storage=free(), metadata=free())
    with WireServer(options=Options(neighbours=places)) as server:
        ask_once(server.address, get_goal_state(server.address))
        yield Azure(server, places)


def test_vm_settings_tell_of_either_source_and_of_nothing_new(azure: Azure) -> None:
    fabric = azure.settings()
    assert json.loads(fabric.body)["extensionGoalStatesSource"] == "Fabric"
    assert azure.settings(fabric.headers["etag"]).status == 304
    azure.server.publish_fast(Plan((Plugin("Pub.One"),), on_hold=True))
    fast = azure.settings(fabric.headers["etag"])
    told = json.loads(fast.body)
    assert (told["extensionGoalStatesSource"], told["onHold"], told["extensionGoalStates"][0]["name"]) == (
        "FastTrack",
        True,
        "Pub.One",
    )
    azure.server.publish_fast(None)
    assert json.loads(azure.settings(fast.headers["etag"]).body)["extensionGoalStatesSource"] == "Fabric"
    azure.server.set_plugin("unsupported")
    assert azure.settings().status == 404
    assert azure.server.refusals == ()


def test_the_plugin_hands_out_what_the_account_has(azure: Azure) -> None:
    url = azure.server.put_blob("/a b/package.zip", b"PK and more")
    through = ask_once(azure.plugin, ask.artifact(azure.plugin, azure.server.goal_state, url))
    direct = ask_once(azure.storage, ask.blob(azure.storage, url))
    assert through.body == direct.body == b"PK and more"
    absent = ask.artifact(azure.plugin, azure.server.goal_state, azure.url("r", "/nothing"))
    assert ask_once(azure.plugin, absent).status == 404


@pytest.mark.parametrize("by_plugin", [True, False])
@pytest.mark.parametrize("status", [json.dumps(ask.status()).encode(), LONG_STATUS], ids=["short", "long"])
def test_a_status_is_kept_whole_however_it_came(azure: Azure, status: bytes, by_plugin: bool) -> None:
    """As a block blob, then as a page blob with its pages one after the other."""
    size = -(-len(status) // 512) * 512
    filled = status.ljust(size, b" ")

    def put(headers: dict[str, str], content: bytes, more: str = "") -> int:
        if by_plugin:
            return ask_once(azure.plugin, azure.upload(headers, content, more)).status
        return ask_once(azure.storage, ask.put_blob(azure.storage, azure.url() + more, headers, content)).status

    right = 200 if by_plugin else 201
    assert put(ask.block_headers(), status) == right
    assert put(ask.page_blob_headers(size), b"") == right
    assert len(azure.server.statuses) == 1
    for first in range(0, size, 512):
        assert put(ask.pages_headers(first, first + 511), filled[first : first + 512], "&comp=page") == right
    assert list(azure.server.statuses) == [json.loads(status)] * 2
    assert azure.server.blob(STATUS) == filled
    assert azure.server.refusals == ()


def test_what_is_told_of_events_and_health_is_kept(azure: Azure) -> None:
    address = azure.server.address
    assert ask_once(address, ask.telemetry(address)).status == 200
    assert [event.number for event in azure.server.events] == ["1", "4", "7"]
    assert azure.server.events[0].told["Operation"] == "text"
    heartbeat = ask.observations(address, "GuestAgentPluginHeartbeat", "GuestAgentPluginStatus")
    assert ask_once(address, heartbeat).status == 200
    assert len(azure.server.observations) == 2
    for _ in range(14):
        assert ask_once(address, ask.telemetry(address)).status == 200
    assert ask_once(address, ask.telemetry(address)).status == 429
    assert azure.server.refusals[0].rule == "telemetry-rate"


def test_a_log_is_kept(azure: Azure) -> None:
    log = ask.log(azure.plugin, azure.server.goal_state, b"PK" + bytes(2_000_000))
    assert ask_once(azure.plugin, log).status == 200
    assert len(azure.server.logs[0]) == 2_000_002


def test_what_it_may_be_told_while_it_runs(azure: Azure) -> None:
    told = publishing.publish(azure.server, 'fast {"plugins": [{"name": "Pub.Two"}]}')
    assert azure.settings().headers["etag"] == told["etag"]
    url = publishing.publish(azure.server, "blob /there some text")["url"]
    assert ask_once(azure.storage, ask.blob(azure.storage, url)).body == b"some text"
    publishing.publish(azure.server, "metadata location=elsewhere")
    assert json.loads(ask_once(azure.metadata, ask.metadata(azure.metadata)).body)["location"] == "elsewhere"
    assert publishing.publish(azure.server, "last")["status"] is None


@pytest.mark.parametrize(
    ("fault", "name"),
    [("vmsettings:status=502*1", "plugin"), ("blob:status=503*1", "storage"), ("metadata:drop*1", "")],
)
def test_faults_meet_them_as_well(azure: Azure, fault: str, name: str) -> None:
    azure.server.fault(fault)
    if not name:
        with pytest.raises(EOFError):
            ask_once(azure.metadata, ask.metadata(azure.metadata))
        return
    url = azure.server.put_blob("/x", b"x")
    replies = [azure.settings() if name == "plugin" else ask_once(azure.storage, ask.blob(azure.storage, url))]
    assert replies[0].status in {502, 503}
    azure.server.fault(f"{name}:refuse")
    with pytest.raises(ConnectionRefusedError):
        azure.settings() if name == "plugin" else ask_once(azure.storage, ask.blob(azure.storage, url))
    azure.server.clear_faults()
    assert (
        azure.settings() if name == "plugin" else ask_once(azure.storage, ask.blob(azure.storage, url))
    ).status == 200


@dataclass(frozen=True)
class Wrong:
    """What `make` drafts is refused by `rule`, with `status`."""

    rule: str
    make: Callable[[Azure], tuple[tuple[str, int], Draft]]
    status: int = 400


def settings(rule: str, name: str, value: str | None, status: int = 400) -> Wrong:
    return Wrong(rule, lambda a: (a.plugin, ask.vm_settings(a.plugin, a.server.goal_state).having(name, value)), status)


def stale(rule: str) -> Wrong:
    """The ids of the goal state before the current one; or, for the config's name, the container kept."""

    def make(azure: Azure) -> tuple[tuple[str, int], Draft]:
        old = azure.server.goal_state
        azure.server.publish(new_container="container" in rule)
        return azure.plugin, ask.vm_settings(azure.plugin, old)

    return Wrong(rule, make, 410)


def fetching(rule: str, name: str, value: str | None) -> Wrong:
    return Wrong(rule, lambda a: (a.plugin, ask.artifact(a.plugin, a.server.goal_state, a.url()).having(name, value)))


def uploading(rule: str, change: Callable[[dict[str, object]], object]) -> Wrong:
    def make(azure: Azure) -> tuple[tuple[str, int], Draft]:
        draft = azure.upload(ask.block_headers(), json.dumps(ask.status()).encode())
        told = json.loads(draft.body)
        change(told)
        body = json.dumps(told).encode()
        return azure.plugin, replace(draft, body=body).having("Content-Length", str(len(body)))

    return Wrong(rule, make)


def writing(
    rule: str, headers: dict[str, str], content: bytes = b"", more: str = "", permissions: str = "rw", status: int = 400
) -> Wrong:
    """With headers left out where they are empty; pages of a blob of two."""

    def make(azure: Azure) -> tuple[tuple[str, int], Draft]:
        made = ask.put_blob(azure.storage, azure.url(path="/pages"), ask.page_blob_headers(1024), b"")
        assert ask_once(azure.storage, made).status == 201
        path = "/none" if "none" in more else "/pages"
        url = azure.url(permissions, path) + more.removesuffix("none")
        given = {name: value for name, value in headers.items() if value}
        return azure.storage, ask.put_blob(azure.storage, url, given, content)

    return Wrong(rule, make, status)


def told(rule: str, content: object) -> Wrong:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Wrong(rule, lambda a: (a.plugin, a.upload(ask.block_headers(), body)))


def logging(rule: str, name: str, value: str | None) -> Wrong:
    return Wrong(rule, lambda a: (a.plugin, ask.log(a.plugin, a.server.goal_state, b"PK").having(name, value)))


def spoiling(rule: str, make: Callable[[tuple[str, int]], Draft], old: str, new: str) -> Wrong:
    """A POST to the WireServer, with its body changed."""

    def spoiled(azure: Azure) -> tuple[tuple[str, int], Draft]:
        draft = make(azure.server.address)
        body = draft.body.replace(old.encode(), new.encode(), 1)
        assert body != draft.body
        return azure.server.address, replace(draft, body=body).having("Content-Length", str(len(body)))

    return Wrong(rule, spoiled)


def observed(address: tuple[str, int]) -> Draft:
    return ask.observations(address, "GuestAgentPluginHeartbeat")


def asking(rule: str, name: str, value: str | None, target: str = "") -> Wrong:
    def make(azure: Azure) -> tuple[tuple[str, int], Draft]:
        draft = ask.metadata(azure.metadata).having(name, value)
        return azure.metadata, replace(draft, target=target or draft.target)

    return Wrong(rule, make)


PAGE = "&comp=page"
BLOCK, PAGES = ask.block_headers(), ask.pages_headers(0, 511)
EVENT = ' id="1"><![CDATA['
NEITHER = '<Param Name="Other" Value="x" T="mt:wstr" />'
WRONGS = (
    settings("plugin-version", "x-ms-version", "2012-11-30"),
    settings("plugin-container-issued", "x-ms-containerid", "11111111-1111-1111-1111-111111111111"),
    settings("plugin-container-issued", "x-ms-containerid", None),
    settings("plugin-config-issued", "x-ms-host-config-name", "other.xml"),
    settings("plugin-correlation", "x-ms-client-correlationid", "1"),
    stale("plugin-container-current"),
    stale("plugin-config-current"),
    fetching("plugin-verify", "x-ms-verify-from-artifacts-blob", "yes"),
    fetching("plugin-location", "x-ms-artifact-location", None),
    uploading("plugin-order", lambda body: body.update(more=1)),
    uploading("plugin-order", lambda body: body.pop("headers")),
    uploading("plugin-order", lambda body: body.update(headers={"x-ms-version": "2014-02-14"})),
    uploading("plugin-order", lambda body: body.update(headers=[{"headerName": "a", "headerValue": 1}])),
    uploading("plugin-content", lambda body: body.update(content="no base64")),
    Wrong("plugin-json", lambda a: (a.plugin, a.upload(BLOCK, b"{}").having("Content-Type", "text/plain"))),
    logging("plugin-deployment", "x-ms-vmagentlog-deploymentid", None),
    logging("plugin-client", "x-ms-client-version", None),
    logging("plugin-client", "x-ms-client-name", "agent"),
    Wrong("plugin-zip", lambda a: (a.plugin, ask.log(a.plugin, a.server.goal_state, b"text"))),
    Wrong("blob-url", lambda a: (a.plugin, ask.artifact(a.plugin, a.server.goal_state, "https://x.test/a")), 404),
    Wrong("blob-there", lambda a: (a.storage, ask.blob(a.storage, a.url("r", "/absent"))), 404),
    Wrong("blob-signature", lambda a: (a.storage, ask.blob(a.storage, a.url().replace("sig=", "sig=x"))), 403),
    Wrong("blob-signature", lambda a: (a.storage, ask.blob(a.storage, f"{NOWHERE}/$system/vm.status")), 403),
    writing("blob-permission", BLOCK, permissions="r", status=403),
    writing("blob-version", BLOCK | {"x-ms-version": ""}),
    writing("blob-date", BLOCK | {"x-ms-date": "yesterday"}, status=403),
    writing("blob-comp", BLOCK, more="&comp=block"),
    writing("blob-type", BLOCK | {"x-ms-blob-type": "AppendBlob"}),
    writing("blob-size", ask.page_blob_headers(1000)),
    writing("blob-empty", ask.page_blob_headers(512), b"x"),
    writing("blob-made", PAGES, bytes(512), f"{PAGE}none", status=404),
    writing("blob-page-write", PAGES | {"x-ms-page-write": ""}, bytes(512), PAGE),
    writing("blob-range", PAGES | {"x-ms-range": "bytes=0-510"}, bytes(511), PAGE, status=416),
    writing("blob-range", PAGES | {"x-ms-range": "bytes=1024-1535"}, bytes(512), PAGE, status=416),
    writing("blob-range-length", PAGES, bytes(511), PAGE),
    told("status-json", b"[]"),
    told("status-size", b"x" * (4 * 1024 * 1024 + 1)),
    told("status-form", {**ask.status(), "more": 1}),
    told("status-form", {name: value for name, value in ask.status().items() if name != "guestOSInfo"}),
    told("status-values", ask.status(timestampUTC="2026-01-01 00:00:00")),
    told("status-values", ask.status(version="1.0")),
    spoiling("telemetry-size", ask.telemetry, "text", "x" * 65536),
    spoiling("telemetry-root", ask.telemetry, '<TelemetryData version="1.0"', '<TelemetryData version="2.0"'),
    spoiling("telemetry-provider", ask.telemetry, "69B669B9", "79B669B9"),
    spoiling("telemetry-event", ask.telemetry, EVENT, EVENT.replace("1", "9")),
    spoiling("telemetry-parameters", ask.telemetry, EVENT, EVENT + NEITHER),
    spoiling("telemetry-parameters", ask.telemetry, 'Name="Duration"', 'Name="Lasting"'),
    spoiling("telemetry-values", ask.telemetry, 'Name="Duration" Value="7"', 'Name="Duration" Value="-1"'),
    Wrong("observations-type", lambda a: (a.server.address, observed(a.server.address).having("Content-Type", "x"))),
    spoiling("observations-form", observed, "reporttargethealth", "report"),
    spoiling("observations-form", observed, "true", '"True"'),
    spoiling("observations-size", observed, '"Value": ""', f'"Value": "{"x" * 129}"'),
    spoiling("observations-name", observed, "PluginHeartbeat", "Heartbeat"),
    Wrong("observations-count", lambda a: (a.server.address, ask.observations(a.server.address))),
    asking("metadata-header", "Metadata", None),
    asking("metadata-forwarded", "X-Forwarded-For", "10.0.0.9"),
    asking("metadata-version", "Metadata", "True", "/metadata/instance?api-version=2001-01-01"),
)


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: wrong.rule)
def test_what_is_wrong_is_refused_by_its_rule(azure: Azure, wrong: Wrong) -> None:
    address, draft = wrong.make(azure)
    reply = ask_once(address, draft)
    (refusal,) = azure.server.refusals
    assert (refusal.rule, reply.status) == (wrong.rule, wrong.status)
    assert reply.body.decode() == refusal.why
    assert ("InvalidContainerConfiguration" in refusal.why) == refusal.rule.endswith("-issued")
    kept = azure.server.statuses, azure.server.events, azure.server.observations, azure.server.logs
    assert not any(kept)


def test_every_rule_refuses_something() -> None:
    book = BLOB_RULES | METADATA_RULES | PLUGIN_RULES | STATUS_RULES | TELEMETRY_RULES
    assert {wrong.rule for wrong in WRONGS} | {"telemetry-rate"} == set(book)
