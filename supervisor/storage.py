# SPDX-License-Identifier: Apache-2.0
"""Owns the direct way to blobs: each transfer is a worker's, which alone speaks TLS and sees the URL beside us.

Runs in the supervisor. It decides by which proxy, and tells nobody a URL's query.
"""

import os
from collections.abc import Callable

import msgspec

from ipc.channel import Received
from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.errors import AgentError, HostRefused, HostUnreachable
from ipc.messages import (
    BlobFetched,
    BlobInFile,
    BlobPut,
    BlobStored,
    FetchBlob,
    FetchInto,
    InputRefused,
    Message,
    StatusBlob,
    StoreBlob,
    TransferFailed,
    Way,
)
from ipc.messages.storage import MOST_BYTES
from ipc.secret import Secret
from supervisor.compatibility import AGENT_NAME, AGENT_VERSION
from supervisor.fleet import Fleet
from supervisor.prepared import Errand
from supervisor.wire.proxy import ProxySettings
from supervisor.wire.status_blob import padded, puts
from supervisor.wire.urls import shown

KIND = "storage"
FETCH_S, PUT_S = 120.0, 60.0
# Beyond the transfer's own time, for the worker to say that it is over: a lookup of a name can't be cut short.
PATIENCE_S = 20.0


class StorageRules(msgspec.Struct, frozen=True):
    """`wireserver` is the address that no transfer may go to; `plain` (OS.AllowHTTP) lets http be spoken, too."""

    wireserver: str
    proxies: ProxySettings = ProxySettings()
    plain: bool = False


class Storage:
    """Transfers, each by a worker of its own, but those of one `errand`. Each raises HostUnreachable or HostRefused."""

    def __init__(self, fleet: Fleet, rules: StorageRules, now: Callable[[], float]) -> None:
        """`now` is the host's time in seconds since 1970."""
        self._fleet = fleet
        self._rules = rules
        self._now = now

    async def fetch(self, url: str, most_bytes: int, seconds: float = FETCH_S, errand: Errand | None = None) -> bytes:
        """All that stands at `url`, at most `most_bytes`, complete: what was cut off on the way is refused."""
        what = f"GET {shown(url)}"
        request = FetchBlob(Secret(url), self._way(url, seconds), min(most_bytes, MOST_BYTES))
        answer, descriptors = await self._do(what, request, (), BlobFetched, seconds, errand)
        try:
            if not isinstance(answer, BlobFetched) or len(descriptors) != 1:
                raise _failed(what, answer)
            content = read_sealed(descriptors[0], most_bytes)
        except AgentError as error:
            raise error if isinstance(error, HostRefused | HostUnreachable) else _lost(what, error) from None
        finally:
            close_all(descriptors)
        if len(content) != answer.size:
            raise HostUnreachable(f"{what}: {len(content)} bytes came, of {answer.size} that were fetched")
        return content

    async def fetch_into(
        self, url: str, file: int, most_bytes: int, seconds: float = FETCH_S, errand: Errand | None = None
    ) -> int:
        """The same into `file`, which is empty: how many bytes. Who has written them may live on for a moment."""
        what = f"GET {shown(url)}"
        request = FetchInto(Secret(url), self._way(url, seconds), most_bytes)
        # Our own: a transfer that nobody waits for any more may outlive the caller's.
        own = os.dup(file)
        try:
            answer, descriptors = await self._do(what, request, (own,), BlobInFile, seconds, errand)
        finally:
            os.close(own)
        close_all(descriptors)
        if not isinstance(answer, BlobInFile):
            raise _failed(what, answer)
        return answer.size

    async def put(self, blob: StatusBlob, content: bytes) -> None:
        """Store `content` in `blob`."""
        what = f"PUT {shown(blob.url)}"
        stored = padded(blob, content)
        steps = puts(blob, len(stored), self._now())
        parts = tuple(BlobPut(Secret(step.url), step.headers, step.start, step.end) for step in steps)
        request = StoreBlob(parts, self._way(blob.url, PUT_S))
        memfd = sealed_memfd("status", stored)
        try:
            answer, descriptors = await self._do(what, request, (memfd,), BlobStored, PUT_S)
        finally:
            close_all((memfd,))
        close_all(descriptors)
        if not isinstance(answer, BlobStored):
            raise _failed(what, answer)

    def _way(self, url: str, seconds: float) -> Way:
        scheme, _, rest = url.partition("://")
        authority = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
        proxy = self._rules.proxies.proxy_for(scheme.lower(), authority.partition(":")[0])
        by = (proxy.host, proxy.port) if proxy is not None else ("", 0)
        return Way(self._rules.wireserver, f"{AGENT_NAME}/{AGENT_VERSION}", seconds, self._rules.plain, *by)

    async def _do(  # noqa: PLR0913, PLR0917 - a transfer and its conditions
        self,
        what: str,
        request: Message,
        given: tuple[int, ...],
        wanted: type[Message],
        seconds: float,
        errand: Errand | None = None,
    ) -> Received:
        final, deadline_s = (wanted, TransferFailed), seconds + PATIENCE_S
        try:
            received = await self._fleet.do(KIND, request, given, final=final, deadline_s=deadline_s, errand=errand)
        except AgentError as error:
            raise _lost(what, error) from None
        return received[-1]


def _lost(what: str, error: AgentError) -> HostUnreachable:
    return HostUnreachable(f"{what}: {error}")


def _failed(what: str, answer: Message) -> AgentError:
    """Why there is no good answer."""
    match answer:
        case TransferFailed(status=0, problem=problem):
            return HostUnreachable(problem)
        case TransferFailed(status=status):
            return HostRefused(status, f"{what} (storage)")
        case InputRefused(problem=problem):
            return HostUnreachable(f"{what}: {problem}")
    return HostUnreachable(f"{what}: {type(answer).__name__} came back")
