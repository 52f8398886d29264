# SPDX-License-Identifier: Apache-2.0
"""The storage worker as it is shipped: what it fetches and stores, and all that it takes for no good answer."""

import hashlib
import re
import time
from typing import Any

import pytest

from ipc.messages import (
    BlobFetched,
    BlobInFile,
    BlobPut,
    BlobStored,
    FetchBlob,
    FetchInto,
    Message,
    StatusBlob,
    StoreBlob,
    TransferFailed,
    Way,
)
from ipc.secret import Secret
from supervisor.wire.status_blob import MOST_PAGES_BYTES, padded, puts
from tests.fabric.surroundings import ACCOUNT, PROXY, PROXY_PORT
from tests.fabric.waiting import until
from tests.jail.rigged import Rig
from tests.storage.account import BLOB, WIRESERVER
from tests.storage.conftest import FOLDER, Ground, ask

pytestmark = pytest.mark.root

TOKEN = "?sv=2018-03-28&sig=Very%2FSecret%3D"
MOST = 300_000
PROXIED: dict[str, Any] = {"proxy_host": PROXY, "proxy_port": PROXY_PORT}
NOON = 1_700_000_000.0


def way(seconds: float = 15.0, **more: Any) -> Way:
    return Way(WIRESERVER, "WALinuxAgent/test", seconds, **more)


def fetch(url: str, seconds: float = 15.0, **more: Any) -> FetchBlob:
    return FetchBlob(Secret(url), way(seconds, **more), MOST)


def store(blob: StatusBlob, content: bytes, **more: Any) -> tuple[StoreBlob, bytes]:
    stored = padded(blob, content)
    parts = tuple(BlobPut(Secret(put.url), put.headers, put.start, put.end) for put in puts(blob, len(stored), NOON))
    return StoreBlob(parts, way(**more)), stored


def failure(answer: Message) -> TransferFailed:
    assert isinstance(answer, TransferFailed), answer
    assert "Secret" not in answer.problem
    return answer


@pytest.mark.parametrize("path", ["whole", "chunked"])
def test_a_blob_comes_whole(rig: Rig, ground: Ground, path: str) -> None:
    answer, contents = ask(rig, fetch(f"https://{ACCOUNT}/{path}{TOKEN}"))
    assert answer == BlobFetched(len(BLOB), hashlib.sha256(BLOB).hexdigest())
    assert contents == [BLOB]
    (request,) = ground.requests()
    assert request["line"] == f"GET /{path}{TOKEN} HTTP/1.1"
    told = {"host": ACCOUNT, "user-agent": "WALinuxAgent/test", "accept-encoding": "identity"}
    assert request["fields"] == told


@pytest.mark.parametrize(
    ("url", "status", "problem"),
    [
        # What comes is not the blob, or not all of it.
        (f"https://{ACCOUNT}/truncated", 0, "IncompleteRead"),
        (f"https://{ACCOUNT}/cut-chunks", 0, "InvalidChunkLength|IncompleteRead|Connection broken"),
        (f"https://{ACCOUNT}/no-length", 0, "how long the answer is, is not told in one way"),
        (f"https://{ACCOUNT}/two-lengths", 0, "multiple unmatching values"),
        (f"https://{ACCOUNT}/endless", 0, f"the answer is longer than {MOST} bytes"),
        (f"https://{ACCOUNT}/encoded", 0, "the answer is encoded .'gzip'., which was not asked for"),
        (f"https://{ACCOUNT}/elsewhere", 302, "HTTP status 302, 200 is expected"),
        (f"https://{ACCOUNT}/moved", 307, "HTTP status 307, 200 is expected"),
        (f"https://{ACCOUNT}/gone", 404, "HTTP status 404, 200 is expected"),
        (f"https://{ACCOUNT}/nonsense", 0, "BadStatusLine"),
        (f"https://{ACCOUNT}/long-head", 0, "got more than 100 headers"),
        # Who answers is not who was meant.
        (f"https://{ACCOUNT}:444/whole", 0, "CERTIFICATE_VERIFY_FAILED"),
        ("https://other.storage.test/whole", 0, "CERTIFICATE_VERIFY_FAILED.*[Hh]ostname mismatch"),
        (f"http://{ACCOUNT}/whole", 0, "scheme is 'http', and https is expected"),
        # Nobody is to be asked.
        ("https://nowhere.storage.test/whole", 0, "nowhere.storage.test can't be looked up"),
        (f"https://user:word@{ACCOUNT}/whole", 0, "names a user"),
        ("file:///etc/shadow", 0, "scheme is 'file'"),
        (f"https://{ACCOUNT}:99999/", 0, "the URL is none"),
        ("https://a b/", 0, "characters that no URL has"),
        (f"https://{ACCOUNT}:445/whole", 0, "Connection refused"),
    ],
)
def test_what_is_not_the_blob_is_refused(rig: Rig, url: str, status: int, problem: str) -> None:
    answer = failure(ask(rig, fetch(f"{url}{TOKEN}"))[0])
    assert answer.status == status
    assert re.search(problem, answer.problem), answer.problem


@pytest.mark.parametrize("host", [WIRESERVER, "wire.storage.test", "here.storage.test", "metadata.storage.test"])
def test_nothing_goes_to_the_wireserver_nor_to_this_machine(rig: Rig, ground: Ground, host: str) -> None:
    answer = failure(ask(rig, fetch(f"http://{host}/machine{TOKEN}", plain=True))[0])
    assert "is the WireServer" in answer.problem or "nothing is sent" in answer.problem, answer.problem
    assert ground.requests() == []


def test_a_drip_of_bytes_ends_in_time(rig: Rig) -> None:
    began = time.monotonic()
    answer = failure(ask(rig, fetch(f"https://{ACCOUNT}/drip{TOKEN}", 1.5))[0])
    assert answer.problem == "not complete within 1.5 s"
    assert time.monotonic() - began < 6


def test_plain_http_where_the_owner_allows_it(rig: Rig, ground: Ground) -> None:
    answer, contents = ask(rig, fetch(f"http://{ACCOUNT}/whole{TOKEN}", plain=True))
    assert (type(answer), contents) == (BlobFetched, [BLOB])
    assert [request["at"][1] for request in ground.requests()] == [80]


def test_by_a_proxy_through_a_tunnel(rig: Rig, ground: Ground) -> None:
    """The proxy is told a name and a port; the certificate is that of storage, and checked."""
    answer, contents = ask(rig, fetch(f"https://{ACCOUNT}/whole{TOKEN}", **PROXIED))
    assert contents == [BLOB], answer
    proxied = ground.lab.path(f"{FOLDER}/proxied")
    until("the proxy's note", proxied.exists)
    assert proxied.read_text() == f"{ACCOUNT}:443\n"
    assert "CERTIFICATE_VERIFY_FAILED" in failure(ask(rig, fetch(f"https://{ACCOUNT}:444/whole", **PROXIED))[0]).problem
    refused = failure(ask(rig, fetch(f"https://{WIRESERVER}/", **PROXIED))[0])
    assert "is the WireServer" in refused.problem
    proxy: dict[str, Any] = {"proxy_host": "wire.storage.test", "proxy_port": 80}
    assert "is the WireServer" in failure(ask(rig, fetch(f"https://{ACCOUNT}/whole", **proxy))[0]).problem


def test_a_block_blob_is_stored_by_one_request(rig: Rig, ground: Ground) -> None:
    request, content = store(StatusBlob(f"https://{ACCOUNT}/status{TOKEN}", "BlockBlob"), b'{"version":"1.1"}')
    assert ask(rig, request, content)[0] == BlobStored()
    (put,) = ground.requests()
    assert put["line"] == f"PUT /status{TOKEN} HTTP/1.1"
    fields = put["fields"]
    assert (fields["x-ms-blob-type"], fields["x-ms-version"]) == ("BlockBlob", "2014-02-14")
    assert (fields["x-ms-date"], fields["content-length"]) == ("2023-11-14T22:13:20Z", "17")
    assert bytes.fromhex(put["body"]) == b'{"version":"1.1"}'


def test_a_page_blob_is_made_and_filled(rig: Rig, ground: Ground) -> None:
    """In pages of 512 bytes, at most 4 MiB of them a request, on one connection."""
    given = b"x" * (MOST_PAGES_BYTES + 100)
    request, content = store(StatusBlob(f"https://{ACCOUNT}/page{TOKEN}", "PageBlob"), given)
    assert ask(rig, request, content)[0] == BlobStored()
    made, first, last = ground.requests()
    assert made["fields"]["x-ms-blob-content-length"] == str(MOST_PAGES_BYTES + 512)
    assert (made["body"], made["fields"]["content-length"]) == ("", "0")
    assert [each["line"] for each in (first, last)] == [f"PUT /page{TOKEN}&comp=page HTTP/1.1"] * 2
    ranges = [each["fields"]["x-ms-range"] for each in (first, last)]
    assert ranges == [f"bytes=0-{MOST_PAGES_BYTES - 1}", f"bytes={MOST_PAGES_BYTES}-{MOST_PAGES_BYTES + 511}"]
    assert bytes.fromhex(first["body"] + last["body"]) == given + b" " * 412


def test_what_storage_does_not_take_is_told(rig: Rig) -> None:
    request, content = store(StatusBlob(f"https://{ACCOUNT}/forbidden{TOKEN}", "BlockBlob"), b"{}")
    answer = failure(ask(rig, request, content)[0])
    assert (answer.status, answer.problem) == (
        403,
        f"PUT https://{ACCOUNT}/forbidden: HTTP status 403, 201 is expected",
    )


def test_a_package_comes_whole_into_the_file_that_is_handed_over(rig: Rig, ground: Ground) -> None:
    """From its beginning, whatever another transfer has left there; what is cut short, or too long, is no answer."""
    file = f"{FOLDER}/package"
    ground.lab.path(file).write_bytes(b"left over")
    into = FetchInto(Secret(f"https://{ACCOUNT}/whole{TOKEN}"), way(), len(BLOB))
    assert ask(rig, into, file=file) == (BlobInFile(len(BLOB)), [])
    assert ground.lab.path(file).read_bytes() == BLOB
    (request,) = ground.requests()
    assert request["line"] == f"GET /whole{TOKEN} HTTP/1.1"
    for path, most, problem in (
        ("truncated", len(BLOB), "IncompleteRead"),
        ("whole", len(BLOB) - 1, "longer than 255999 bytes"),
        ("drip", 1 << 30, "not complete within 1 s"),
    ):
        cut = FetchInto(Secret(f"https://{ACCOUNT}/{path}{TOKEN}"), way(1.0), most)
        assert problem in failure(ask(rig, cut, file=file)[0]).problem
