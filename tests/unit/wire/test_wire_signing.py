# SPDX-License-Identifier: Apache-2.0
"""The signature of the secure channel: published vectors, the library's HMAC, and the host's reading of the text."""

import hashlib
import hmac
from email.utils import parsedate_to_datetime

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.secret import Secret
from supervisor.clock import SystemClock
from supervisor.loop import Loop
from supervisor.wire.canonical import AUTHORIZATION, canonical, canonical_query
from supervisor.wire.connection import Connection, Limits
from supervisor.wire.host_time import HostTime
from supervisor.wire.requests import Catalogue, Request
from supervisor.wire.sealing import Sealing
from supervisor.wire.signing import SigningKey, hmac_sha256
from tests.fabric.host_signature import signature, signed_bytes
from tests.unit.wire.scripted_server import ScriptedServer, answer, once
from tests.unit.wire.turning import finish

KEY = SigningKey("b1946ac9-2492-4d23-a5ad-6f2e7a1f8c10", Secret("0a" * 31 + "F1"))
CATALOGUE = Catalogue("168.63.129.16")
# RFC 4231: key, data, HMAC-SHA-256 (of the fifth the first half).
VECTORS = {
    1: (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    2: (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    3: (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    4: (
        bytes(range(1, 26)),
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
    5: (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
    6: (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    7: (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. "
        b"The key needs to be hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
}
TOKENS = st.text(st.sampled_from("abcXYZ019-_."), min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
QUERIES = st.text(st.sampled_from("aAbB=&%2f-1"), max_size=30)
HEADERS = st.dictionaries(TOKENS, VALUES, max_size=6).filter(
    lambda found: len({n.lower() for n in found}) == len(found)
)


@pytest.mark.parametrize("number", VECTORS)
def test_the_code_is_that_of_rfc_4231(number: int) -> None:
    key, data, expected = VECTORS[number]
    assert hmac_sha256(key, data).hex()[: len(expected)] == expected


@given(st.binary(max_size=200), st.binary(max_size=300))
def test_the_code_is_the_librarys(key: bytes, data: bytes) -> None:
    assert hmac_sha256(key, data) == hmac.digest(key, data, hashlib.sha256)


def test_the_query_of_the_specification() -> None:
    query = (
        b"comp=config&keyOnly&comp=again&type=hostingEnvironmentConfig&incarnation=1"
        b"&resource=https%3a%2f%2fstorage.azure.com%2f"
    )
    assert canonical_query(query) == (
        b"comp=again&comp=config&incarnation=1&keyonly&resource=https%3a%2f%2fstorage.azure.com%2f"
        b"&type=hostingEnvironmentConfig"
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", b""),
        (b"a", b"a"),
        (b"a=", b"a"),
        (b"=x&a=1", b"a=1"),
        (b"a=1&A=1&a=1", b"a=1"),
        (b"A=X", b"a=X"),
        (b"a=b=c", b"a=b=c"),
        (b"ab=1&a=c", b"ab=1&a=c"),  # "ab1" comes before "ac"
        (b"a&b&&c", b"a&b&c"),
    ],
)
def test_queries(query: bytes, expected: bytes) -> None:
    assert canonical_query(query) == expected


def test_the_signed_bytes_stand_in_their_order() -> None:
    headers = [(b"X-Ms-B", b" two "), (b"Host", b"h"), (b"x-ms-a", b""), (AUTHORIZATION, b"of an earlier sending")]
    signed = canonical(b"POST", b"/a%20b/?b=2&A=1", headers, b"raw\nbody")
    assert signed == b"POST\nraw\nbody\nhost:h\nx-ms-a:\nx-ms-b:two\n/a%20b/\na=1&b=2"
    assert canonical(b"GET", b"/", [], b"") == b"GET\n\n/\n"


@given(st.sampled_from(["GET", "POST"]), TOKENS, QUERIES, HEADERS, st.binary(max_size=50))
def test_the_host_reads_the_specification_in_the_same_way(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    target = f"/{path}?{query}"
    ours = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert canonical(method.encode(), target.encode(), ours, body) == signed_bytes(
        method, target, tuple(headers.items()), body
    )


@pytest.mark.parametrize("digits", ["", "0" * 63, "0" * 65, "g" * 64, "0" * 63 + " ", "\u0660" * 64])
def test_a_key_has_64_hex_digits(digits: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        SigningKey("g", Secret(digits))


def test_a_key_is_never_shown() -> None:
    assert "0a0a" not in f"{KEY!r} {KEY}"


def on_the_wire(loop: Loop, sealing: Sealing, request: Request) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Method, target and headers, read back from the bytes that go out."""
    with ScriptedServer(once(answer())) as server:
        connection = Connection(loop, ("127.0.0.1", server.port), Limits(), added=sealing.added)
        finish(loop, loop.start("test", connection.exchange(request)))
        connection.close()
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == request.body
    first, *lines = head.decode("ascii").split("\r\n")
    method, target, _ = first.split(" ")
    return method, target, tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))


@pytest.mark.parametrize(
    "request_", [CATALOGUE.versions, CATALOGUE.goal_state, CATALOGUE.health(b"<Health/>"), CATALOGUE.attestation(KEY)]
)
def test_what_goes_out_has_the_signature_that_the_host_computes(loop: Loop, request_: Request) -> None:
    sealing = Sealing(HostTime(SystemClock()))
    sealing.key = KEY
    method, target, headers = on_the_wire(loop, sealing, request_)
    named = {name.lower(): value for name, value in headers}
    scheme, guid, told = named["x-ms-azure-host-authorization"].split(" ")
    assert (scheme, guid) == ("Azure-HMAC-SHA256", KEY.guid)
    assert told == signature(KEY.secret.reveal(), method, target, headers, request_.body)
    assert abs(parsedate_to_datetime(named["x-ms-azure-host-date"]).timestamp() - SystemClock().wall()) < 5
    assert named["x-ms-azure-host-claims"] == '{ "isRoot": "true"}'
    assert named["content-length"] == str(len(request_.body))
    assert len(named) == len(headers)


def test_without_a_key_a_request_goes_out_as_it_is() -> None:
    sealing = Sealing(HostTime(SystemClock()))
    assert sealing.added(CATALOGUE.goal_state) == []


def test_questions_about_the_channel_are_dated_and_not_signed(loop: Loop) -> None:
    sealing = Sealing(HostTime(SystemClock()))
    for key in (None, KEY):
        sealing.key = key
        for request in (CATALOGUE.channel_status, CATALOGUE.channel_key):
            _, _, headers = on_the_wire(loop, sealing, request)
            named = {name.lower(): value for name, value in headers}
            assert named["metadata"] == "True"
            assert {"x-ms-azure-host-date", "x-ms-azure-host-claims", "content-length", "host"} <= named.keys()
            assert "x-ms-azure-host-authorization" not in named


@pytest.mark.parametrize(
    ("method", "target"),
    [("PUT", "/vmAgentLog"), ("PUT", "/VMAGENTLOG"), ("POST", "/machine/?comp=telemetrydata")],
)
def test_two_requests_are_never_signed(method: str, target: str) -> None:
    sealing = Sealing(HostTime(SystemClock()))
    sealing.key = KEY
    head = h11.Request(method=method, target=target, headers=[("Host", "h"), ("Content-Length", "0")])
    assert sealing.added(Request("it", head, b"", 0, repeatable=True)) == []
    near = h11.Request(method="GET", target=target, headers=[("Host", "h")])
    assert sealing.added(Request("it", near, b"", 0, repeatable=True)) != []
