# SPDX-License-Identifier: Apache-2.0
"""Owns what the storage worker is asked for, and what it answers: one transfer from or to a blob.

A blob's URL may hold a SAS token, a credential: it goes to the worker that needs it, and comes back in no answer.
"""

from typing import Annotated

import msgspec

from ipc.messages.base import Message, Name, Short
from ipc.secret import Secret

MOST_BYTES = 32 << 20
MOST_PACKAGE_BYTES = 1 << 30
Bytes = Annotated[int, msgspec.Meta(ge=0, le=MOST_BYTES)]
Address = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}\Z")]


class Way(Message, frozen=True):
    """How a transfer may go. By the proxy, where there is one (`proxy_host` empty: none); never to `wireserver`; within
    `seconds`, name resolution and everything else included. `plain`: http may be spoken, too."""

    wireserver: Address
    user_agent: Name
    seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)]
    plain: bool = False
    proxy_host: Short = ""
    proxy_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0


class FetchBlob(Message, frozen=True):
    """To the storage worker: fetch what stands at `url`, if it is not longer than `most_bytes`."""

    url: Secret
    way: Way
    most_bytes: Bytes


class BlobFetched(Message, frozen=True):
    """All of it is there. One descriptor: a sealed memfd with `size` bytes, of that SHA-256 in hex."""

    size: Bytes
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class FetchInto(Message, frozen=True):
    """To the storage worker: fetch what stands at `url` into a file, which is empty. One descriptor: that file."""

    url: Secret
    way: Way
    most_bytes: Annotated[int, msgspec.Meta(ge=0, le=MOST_PACKAGE_BYTES)]


class BlobInFile(Message, frozen=True):
    """All of it is in the file: its first `size` bytes."""

    size: Annotated[int, msgspec.Meta(ge=0, le=MOST_PACKAGE_BYTES)]


class BlobPut(Message, frozen=True):
    """One PUT to `url`; its body is the content from `start` to before `end`."""

    url: Secret
    headers: Annotated[
        tuple[tuple[Name, Annotated[str, msgspec.Meta(max_length=255)]], ...], msgspec.Meta(max_length=16)
    ]
    start: Bytes
    end: Bytes


class StoreBlob(Message, frozen=True):
    """To the storage worker: send `puts` in their order, each to be answered by 201. One descriptor: a sealed memfd
    with the content."""

    puts: Annotated[tuple[BlobPut, ...], msgspec.Meta(min_length=1, max_length=16)]
    way: Way


class BlobStored(Message, frozen=True):
    """Each was answered by 201."""


class TransferFailed(Message, frozen=True):
    """It came to nothing, or not to all. `status` is what was answered, 0 where that was not the reason; `problem` is
    for people, and names no query."""

    status: Annotated[int, msgspec.Meta(ge=0, le=999)]
    problem: Short
