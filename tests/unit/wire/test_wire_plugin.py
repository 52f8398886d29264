# SPDX-License-Identifier: Apache-2.0
"""The HostGAPlugin client: exact headers, what ends a request and what has it sent once more, files in pieces."""

import base64
import json
import os
import re

import pytest

from ipc.descriptors import sealed_memfd
from ipc.errors import HostError, HostRefused, HostUnreachable, ResourceGone
from ipc.messages import StatusBlob
from ipc.secret import Secret
from supervisor.loop import Loop
from supervisor.wire.connection import PIECE_BYTES, Limits
from supervisor.wire.host import WireServer
from supervisor.wire.plugin import HostPlugin, NotAvailable, PluginAnswer, PluginPatience
from supervisor.wire.plugin_requests import PluginIds
from supervisor.wire.retry import RetryPolicy
from supervisor.wire.signing import SigningKey
from supervisor.wire.status_blob import MOST_PAGES_BYTES
from tests.unit.wire.answering import AnsweringServer, Asked, Respond
from tests.unit.wire.scripted_server import answer
from tests.unit.wire.turning import Run, turn_until

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
SOON = RetryPolicy(attempts=2, delay_s=0.01, throttled_delay_s=0.01, throttled_attempts=2)
SOON_400 = RetryPolicy(2, 0.01, throttled_delay_s=0.01, throttled_attempts=2, retried_too=frozenset({400}))
LIMITS = Limits(connect_s=0.5, silence_s=1.0, answer_s=3.0)
PATIENCE = PluginPatience(LIMITS, LIMITS, LIMITS, LIMITS, versions=SOON, status=SOON, artifacts=SOON_400, packages=SOON)
OLD, NEW = PluginIds("container-1", "deployment-1.role.1"), PluginIds("container-2", "deployment-2.role.2")
KEY = SigningKey("54a6d5b8-8b5b-4d43-a9b8-0ba9bd4a4d1e", Secret("ab" * 32))
BLOB_URL = "https://md.blob.example/status?sv=1&sig=a%2Bb"
MIB = 1 << 20


class Client:
    """A client of `server`, and what it did beside its requests."""

    def __init__(self, loop: Loop, server: AnsweringServer) -> None:
        self.ids = OLD
        self.refreshed = 0
        self.outcomes: list[tuple[str, bool]] = []
        self.wire = WireServer(loop, "127.0.0.1", port=server.port)
        self.plugin = HostPlugin(
            loop, self.wire, ids=lambda: self.ids, refresh=self._refresh, speaks=self._speaks, port=server.port,
            patience=PATIENCE,
        )  # fmt: skip
        self.plugin.on_outcome = lambda what, healthy: self.outcomes.append((what, healthy))

    async def _refresh(self) -> None:
        self.refreshed += 1
        self.ids = NEW

    async def _speaks(self, document: bytes) -> bool:
        return "2015-09-01" in json.loads(document)

    def close(self) -> None:
        self.plugin.close()
        self.wire.close()


def versions_then(respond: Respond) -> Respond:
    return lambda asked: answer(b'["2015-09-01"]') if asked.target == "/versions" else respond(asked)


def test_every_request_has_its_headers(run: Run[object], loop: Loop) -> None:
    def respond(asked: Asked) -> bytes:
        return answer(b"body", "200 OK", 'ETag: "7"')

    with AnsweringServer(versions_then(respond)) as server:
        client = Client(loop, server)
        run(client.plugin.health())
        settings = run(client.plugin.vm_settings())
        run(client.plugin.vm_settings('"7"'))
        run(client.plugin.artifact("https://a.example/m.xml?sig=1", most_bytes=MIB))
        package = {"manifest_url": "https://a.example/m.xml?sig=1", "verify": True}
        run(client.plugin.artifact("https://a.example/p.zip", most_bytes=MIB, **package))  # type: ignore[arg-type]
        client.close()
    assert settings == PluginAnswer(200, b"body", '"7"')
    health, first, second, versions, manifest, fetched = server.requests
    assert {name for name in health.fields if name.startswith("x-ms")} == set()
    identity = {"x-ms-version": "2015-09-01", "x-ms-containerid": "container-1"}
    identity |= {"x-ms-host-config-name": "deployment-1.role.1"}
    asked = own(first)
    assert UUID.fullmatch(asked.pop("x-ms-client-correlationid"))
    assert asked == identity
    assert own(second)["if-none-match"] == '"7"'
    assert own(versions) == {"x-ms-containerid": "container-1"}
    assert own(manifest) == identity | {"x-ms-artifact-location": "https://a.example/m.xml?sig=1"}
    assert own(fetched) == identity | {
        "x-ms-artifact-location": "https://a.example/p.zip",
        "x-ms-artifact-manifest-location": "https://a.example/m.xml?sig=1",
        "x-ms-verify-from-artifacts-blob": "true",
    }
    # What may take long does not hold up the rest; the rest shares one connection.
    assert {each.connection for each in (health, first, second, versions)} == {health.connection}
    assert len({health.connection, manifest.connection, fetched.connection}) == 3
    assert ("versions", True) in client.outcomes


def own(asked: Asked) -> dict[str, str]:
    usual = {"host", "accept-encoding", "user-agent", "content-length", "content-type"}
    return {name: value for name, value in asked.fields.items() if name not in usual}


def test_no_versions_are_asked_again_and_known_ones_are_not(run: Run[object], loop: Loop) -> None:
    told = [b'["2014-01-01"]', b'["2014-01-01", "2015-09-01"]']

    def respond(asked: Asked) -> bytes:
        return answer(told.pop(0) if asked.target == "/versions" else b"it")

    with AnsweringServer(respond) as server:
        client = Client(loop, server)
        with pytest.raises(NotAvailable, match="asked again at the next use"):
            run(client.plugin.artifact("https://a.example/x", most_bytes=MIB))
        for _ in range(2):
            assert run(client.plugin.artifact("https://a.example/x", most_bytes=MIB)) == b"it"
        client.close()
    paths = [each.target for each in server.requests]
    assert paths == ["/versions", "/versions", "/extensionArtifact", "/extensionArtifact"]


@pytest.mark.parametrize("refusal", [(b"", "410 Gone"), (b"InvalidContainerConfiguration", "400 Bad Request")])
def test_ids_out_of_date_are_refreshed_once(run: Run[object], loop: Loop, refusal: tuple[bytes, str]) -> None:
    def respond(asked: Asked) -> bytes:
        return answer(b"it") if asked.fields["x-ms-containerid"] == "container-2" else answer(*refusal)

    with AnsweringServer(versions_then(respond)) as server:
        client = Client(loop, server)
        assert run(client.plugin.artifact("https://a.example/x", most_bytes=MIB)) == b"it"
        assert (client.refreshed, client.ids) == (1, NEW)
        client.ids = OLD
        assert run(client.plugin.vm_settings()) == PluginAnswer(200, b"it", "")
        assert client.refreshed == 2
        client.close()


def test_ids_that_stay_out_of_date_are_an_error(run: Run[object], loop: Loop) -> None:
    with AnsweringServer(versions_then(lambda _: answer(b"", "410 Gone"))) as server:
        client = Client(loop, server)
        with pytest.raises(ResourceGone, match=r"^GET /extensionArtifact of https://a.example/x: HTTP status 410"):
            run(client.plugin.artifact("https://a.example/x?sig=secret", most_bytes=MIB))
        assert run(client.plugin.vm_settings()) == PluginAnswer(410, b"", "")
        assert "410" in client.plugin.status().last_error
        client.close()
    assert len(server.requests) == 5


def test_vm_settings_are_asked_for_once(run: Run[object], loop: Loop) -> None:
    with AnsweringServer(lambda _: answer(b"no", "503 Busy")) as server:
        client = Client(loop, server)
        assert run(client.plugin.vm_settings()) == PluginAnswer(503, b"no", "")
        client.close()
    assert len(server.requests) == 1
    with AnsweringServer(lambda _: b"") as server:
        client = Client(loop, server)
        with pytest.raises(HostUnreachable, match=r"^GET /vmSettings: closed without an answer$"):
            run(client.plugin.vm_settings())
        client.close()


def test_an_etag_that_could_not_be_sent_back_is_none(run: Run[object], loop: Loop) -> None:
    with AnsweringServer(lambda _: answer(b"x", "200 OK", f"ETag: {'e' * 300}")) as server:
        client = Client(loop, server)
        assert run(client.plugin.vm_settings()) == PluginAnswer(200, b"x", "")
        client.close()


@pytest.mark.parametrize(
    ("status", "healthy"), [("500 No", False), ("502 Upstream", True), ("404 None", True), ("503 Busy", False)]
)
def test_whose_fault_it_is(run: Run[object], loop: Loop, status: str, healthy: bool) -> None:
    with AnsweringServer(versions_then(lambda _: answer(b"", status))) as server:
        client = Client(loop, server)
        with pytest.raises(HostRefused):
            run(client.plugin.artifact("https://a.example/x", most_bytes=MIB))
        client.close()
    assert client.outcomes[-1] == ("artifact", healthy)


def test_a_bad_request_is_worth_another_try_for_a_manifest_alone(run: Run[object], loop: Loop) -> None:
    with AnsweringServer(versions_then(lambda _: answer(b"", "400 Bad"))) as server:
        client = Client(loop, server)
        for manifest in ("", "https://a.example/m"):
            with pytest.raises(HostRefused, match="HTTP status 400"):
                run(client.plugin.artifact("https://a.example/x", manifest_url=manifest, most_bytes=MIB))
        client.close()
    locations = ["x-ms-artifact-manifest-location" in each.fields for each in server.requests[1:]]
    assert locations == [False, False, True]


def test_a_block_blob_is_one_request(run: Run[object], loop: Loop) -> None:
    with AnsweringServer(versions_then(lambda _: answer(b"", "201 Created"))) as server:
        client = Client(loop, server)
        run(client.plugin.put_status(StatusBlob(BLOB_URL, "BlockBlob"), '{"größe":1}'.encode()))
        client.close()
    put = server.requests[-1]
    assert (put.method, put.target, put.fields["content-type"]) == ("PUT", "/status", "application/json")
    told = json.loads(put.body)
    assert list(told) == ["content", "headers", "requestUri"]
    assert base64.b64decode(told["content"]) == '{"größe":1}'.encode()
    assert told["requestUri"] == BLOB_URL
    headers = {each["headerName"]: each["headerValue"] for each in told["headers"]}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", headers.pop("x-ms-date"))
    assert headers == {"Content-Length": "13", "x-ms-blob-type": "BlockBlob", "x-ms-version": "2014-02-14"}


@pytest.mark.parametrize("size", [1, 512, 513, MOST_PAGES_BYTES + 1])
def test_a_page_blob_is_made_and_filled_with_blanks(run: Run[object], loop: Loop, size: int) -> None:
    with AnsweringServer(versions_then(lambda _: answer())) as server:
        client = Client(loop, server)
        run(client.plugin.put_status(StatusBlob(BLOB_URL, "PageBlob"), b"x" * size))
        client.close()
    made, *pages = (json.loads(each.body) for each in server.requests[1:])
    assert "content" not in made
    rounded = -(-size // 512) * 512
    length = {"headerName": "x-ms-blob-content-length", "headerValue": str(rounded)}
    assert length in made["headers"]
    assert {page["requestUri"] for page in pages} == {f"{BLOB_URL}&comp=page"}
    assert b"".join(base64.b64decode(page["content"]) for page in pages) == b"x" * size + b" " * (rounded - size)
    ranges = [each["headerValue"] for page in pages for each in page["headers"] if each["headerName"] == "x-ms-range"]
    first_end = min(rounded, MOST_PAGES_BYTES) - 1
    assert ranges[0] == f"bytes=0-{first_end}"
    assert len(ranges) == (2 if rounded > MOST_PAGES_BYTES else 1)


def test_logs_go_in_pieces_and_are_never_signed(run: Run[object], loop: Loop) -> None:
    content = os.urandom(3 * PIECE_BYTES + 17)
    file = sealed_memfd("log", content)
    with AnsweringServer(versions_then(lambda _: answer())) as server:
        client = Client(loop, server)
        client.wire.sealing.key = KEY
        run(client.plugin.put_log(file, len(content)))
        os.lseek(file, 0, os.SEEK_END)
        run(client.plugin.put_log(file, 10))
        with pytest.raises(HostUnreachable, match="the file is shorter than"):
            run(client.plugin.put_log(file, len(content) + 1))
        run(client.plugin.put_status(StatusBlob(BLOB_URL, "BlockBlob"), b"{}"))
        client.close()
    os.close(file)
    whole, part = [each for each in server.requests if each.target == "/vmAgentLog"][:2]
    assert (whole.body, part.body) == (content, content[:10])
    asked = own(whole)
    assert UUID.fullmatch(asked.pop("x-ms-client-correlationid"))
    assert asked == {
        "x-ms-version": "2015-09-01",
        "x-ms-containerid": "container-1",
        "x-ms-vmagentlog-deploymentid": "deployment-1",
        "x-ms-client-name": "WALinuxAgent",
        "x-ms-client-version": "2.15.0.1",
    }
    (status,) = [each for each in server.requests if each.target == "/status"]
    assert status.fields["x-ms-azure-host-authorization"].startswith(f"Azure-HMAC-SHA256 {KEY.guid} ")


@pytest.mark.parametrize("bad", ["con\r\ntainer", "con tainer ", "ü"])
def test_ids_that_no_header_carries_are_refused(loop: Loop, bad: str) -> None:
    with AnsweringServer(lambda _: answer()) as server:
        client = Client(loop, server)
        client.ids = PluginIds(bad, "role")
        asking = loop.start("settings", client.plugin.vm_settings(), at_once=True)
        with pytest.raises(HostError, match="can't stand in a header; nothing is sent"):
            asking.result()
        client.close()
    assert server.connections == 0


def test_closing_ends_what_is_under_way(run: Run[object], loop: Loop) -> None:
    def respond(asked: Asked) -> bytes:
        turned.append(asked)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"

    turned: list[Asked] = []
    with AnsweringServer(versions_then(respond)) as server:
        client = Client(loop, server)
        fetching = loop.start("artifact", client.plugin.artifact("https://a.example/x", most_bytes=MIB))
        turn_until(loop, lambda: bool(turned))
        client.close()
        run(loop.settled(fetching))
        with pytest.raises(HostUnreachable, match="given up on our side"):
            fetching.result()


def test_a_package_goes_into_a_file_each_attempt_anew(run: Run[int], loop: Loop) -> None:
    content = os.urandom(3 * MIB)
    replies = [answer(b"x" * 4 * MIB)[:-1], answer(content)]
    with AnsweringServer(versions_then(lambda _: replies.pop(0))) as server:
        client = Client(loop, server)
        file = os.memfd_create("package")
        url, manifest = "https://a.example/p.zip?sig=1", "https://a.example/m.xml"
        assert run(client.plugin.artifact_into(url, file, manifest_url=manifest, most_bytes=4 * MIB)) == len(content)
        assert os.pread(file, 8 * MIB, 0) == content
        client.close()
    assert [each.target for each in server.requests] == ["/versions", *["/extensionArtifact"] * 2]
    os.close(file)
