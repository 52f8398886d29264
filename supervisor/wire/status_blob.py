# SPDX-License-Identifier: Apache-2.0
"""Owns the requests by which a status gets into its blob (wire-protocol.md 13), by whichever channel they go.

Runs in the supervisor; pure. Both channels send the same: what the host plugin is asked to send is what we would.
"""

import time
from collections.abc import Iterator

import msgspec

from ipc.messages import StatusBlob

STORAGE_VERSION = "2014-02-14"
PAGE_BYTES = 512
# As much as the service takes in one request.
MOST_PAGES_BYTES = 4 * 1024 * 1024


class Put(msgspec.Struct, frozen=True):
    """One PUT to `url`; its body is the content's bytes from `start` to before `end`. Each is answered by 201."""

    url: str
    headers: tuple[tuple[str, str], ...]
    start: int
    end: int


def padded(blob: StatusBlob, content: bytes) -> bytes:
    """`content` as it is stored: pages are filled up with blanks, which mean nothing in JSON."""
    return content.ljust(_rounded(len(content)), b" ") if blob.kind == "PageBlob" else content


def puts(blob: StatusBlob, size: int, now: float) -> Iterator[Put]:
    """The requests for content of `size` bytes, already padded; `now` is the host's time in seconds since 1970."""
    common = (("x-ms-date", _written(now)), ("x-ms-version", STORAGE_VERSION))
    if blob.kind != "PageBlob":
        yield Put(blob.url, (("Content-Length", str(size)), ("x-ms-blob-type", "BlockBlob"), *common), 0, size)
        return
    length = ("x-ms-blob-content-length", str(size))
    yield Put(blob.url, (("Content-Length", "0"), length, ("x-ms-blob-type", "PageBlob"), *common), 0, 0)
    pages = f"{blob.url}{'&' if '?' in blob.url else '?'}comp=page"
    for start in range(0, size, MOST_PAGES_BYTES):
        end = min(size, start + MOST_PAGES_BYTES)
        window = ("x-ms-range", f"bytes={start}-{end - 1}")
        written = (("Content-Length", str(end - start)), window, ("x-ms-page-write", "update"), *common)
        yield Put(pages, written, start, end)


def _rounded(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES


def _written(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
