# SPDX-License-Identifier: Apache-2.0
"""Owns the conversation with the HostGAPlugin, port 32526 of the host (hostga-plugin.md): one kept connection.

Runs in the supervisor. It returns documents as bytes and must never look into one. What takes long, or may, goes by
connections of its own, so that no status waits for it.
"""

import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

import msgspec

from ipc.errors import HostError, HostRefused, HostUnreachable, ResourceGone
from ipc.messages import StatusBlob
from supervisor.loop import Loop, Promise
from supervisor.wire.asking import Asker, HostStatus, gone
from supervisor.wire.connection import Answer, Limits
from supervisor.wire.host import WireServer
from supervisor.wire.plugin_requests import PluginCatalogue, PluginIds
from supervisor.wire.requests import Request
from supervisor.wire.retry import BAD_REQUEST, RetryPolicy, Verdict, judge
from supervisor.wire.status_blob import padded, puts

PLUGIN_PORT = 32526
FIRST_SERVER_ERROR, BAD_GATEWAY = 500, 502
VM_SETTINGS_BYTES = 2 * 1024 * 1024

Refresh: TypeAlias = "Callable[[], Coroutine[Promise[Any], None, object]]"
T = TypeVar("T")
Speaks: TypeAlias = "Callable[[bytes], Coroutine[Promise[Any], None, bool]]"


class NotAvailable(HostError):
    """This host has no plugin that we can speak with."""


class PluginPatience(msgspec.Struct, frozen=True):
    """Every number of this client."""

    limits: Limits = Limits()
    # An artifact comes from storage, by way of the host; a log goes there.
    artifact_limits: Limits = Limits(answer_s=120.0)
    package_limits: Limits = Limits(answer_s=300.0)
    log_limits: Limits = Limits(silence_s=30.0, answer_s=120.0)
    once: RetryPolicy = RetryPolicy(attempts=1, throttled_attempts=1)
    # Fewer than the reference's six: there is another channel, and it is not to be kept waiting.
    versions: RetryPolicy = RetryPolicy(attempts=2, delay_s=0.5, throttled_attempts=2)
    status: RetryPolicy = RetryPolicy(attempts=2, delay_s=0.5, throttled_attempts=2)
    artifacts: RetryPolicy = RetryPolicy(attempts=3, throttled_attempts=3, retried_too=frozenset({BAD_REQUEST}))
    packages: RetryPolicy = RetryPolicy(attempts=3, throttled_attempts=3)


class PluginAnswer(msgspec.Struct, frozen=True):
    """vmSettings as they came: any status. `etag` is empty where the host gave none that can be sent back."""

    status: int
    body: bytes
    etag: str


class HostPlugin:
    """The plugin of `host`. Each request raises HostUnreachable, HostRefused, ResourceGone or NotAvailable.

    `ids` tells whom the newest goal state names; `refresh` fetches that anew, when the host no longer knows them, and
    then the request is sent once more. `speaks` reads /versions: whether API_VERSION is among them."""

    def __init__(  # noqa: PLR0913 - a client and its conditions, each by its name
        self,
        loop: Loop,
        host: WireServer,
        *,
        ids: Callable[[], PluginIds],
        refresh: Refresh,
        speaks: Speaks,
        port: int = PLUGIN_PORT,
        patience: PluginPatience | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.port = port
        # Told after each request: which, and whether the plugin did its part (hostga-plugin.md 2, health accounting).
        self.on_outcome: Callable[[str, bool], None] = lambda what, healthy: None
        self._loop = loop
        self._host = host
        self._ids = ids
        self._refresh = refresh
        self._speaks = speaks
        self._patience = patience or PluginPatience()
        self._random_bytes = random_bytes
        self._catalogue = PluginCatalogue(f"{host.address}:{port}")
        self._asker = self._new_asker(self._patience.limits)
        self._beside: set[Asker] = set()
        self._is_available = False
        self._closed = False

    async def versions(self) -> bytes:
        """The versions that it speaks, a JSON document."""

        async def ask(ids: PluginIds) -> Answer:
            return await self._asker.ask(self._catalogue.versions(ids), self._patience.versions)

        return (await self._told("versions", self._fresh(ask))).body

    async def health(self) -> None:
        """Return when it says that it is well; one attempt."""
        await self._told("health", self._asker.ask(self._catalogue.health, self._patience.once))

    async def vm_settings(self, etag: str = "", most_bytes: int = VM_SETTINGS_BYTES) -> PluginAnswer:
        """The settings, unless they are still those of `etag` (status 304); one attempt. HostUnreachable without an
        answer. For ids that are out of date once more with new ones; the second answer is returned, whatever it is."""
        answer = await self._settings(etag, most_bytes)
        if judge(answer.status, answer.body) is Verdict.GONE:
            await self._refresh()
            answer = await self._settings(etag, most_bytes)
        return PluginAnswer(answer.status, answer.body, answer.etag)

    async def artifact(self, url: str, *, manifest_url: str = "", verify: bool = False, most_bytes: int) -> bytes:
        """What stands at `url`, fetched by the host. `manifest_url` is for a package: the manifest that names it."""
        await self._check_available()
        patience = self._patience

        async def fetch(ids: PluginIds) -> Answer:
            request = self._catalogue.artifact(ids, url, manifest_url, verify=verify, most_bytes=most_bytes)
            policy = patience.packages if manifest_url else patience.artifacts
            return await self._ask_beside(patience.artifact_limits, request, policy)

        return (await self._told("artifact", self._fresh(fetch))).body

    async def artifact_into(self, url: str, file: int, *, manifest_url: str, most_bytes: int) -> int:
        """The same into `file`, a piece at a time: how many bytes."""
        patience = self._patience
        # Our own: a transfer that nobody waits for any more may outlive the caller's.
        own = os.dup(file)

        async def fetch(ids: PluginIds) -> Answer:
            request = self._catalogue.artifact(ids, url, manifest_url, verify=False, most_bytes=most_bytes, into=own)
            return await self._ask_beside(patience.package_limits, request, patience.packages)

        try:
            await self._check_available()
            await self._told("artifact", self._fresh(fetch))
            return os.fstat(own).st_size
        finally:
            os.close(own)

    async def put_status(self, blob: StatusBlob, content: bytes) -> None:
        """Have the host store `content`, UTF-8, in `blob`; returns when it says that it has."""
        await self._check_available()
        stored = padded(blob, content)

        async def store(ids: PluginIds) -> None:
            for put in puts(blob, len(stored), self._host.sealing.time.now):
                await self._asker.ask(self._catalogue.status(ids, put, stored), self._patience.status)

        await self._told("status", self._fresh(store))

    async def put_log(self, content_descriptor: int, size: int) -> None:
        """Hand over the archive of logs in the file `content_descriptor`, its first `size` bytes."""
        await self._check_available()

        async def hand_over(ids: PluginIds) -> Answer:
            request = self._catalogue.log(ids, self._new_id(), content_descriptor, size)
            return await self._ask_beside(self._patience.log_limits, request, self._patience.once)

        await self._fresh(hand_over)

    def close(self) -> None:
        """Give up everything that waits for the plugin, now and later: it fails with HostUnreachable."""
        self._closed = True
        for asker in (self._asker, *self._beside):
            asker.close()

    def status(self) -> HostStatus:
        """What is known about it now."""
        asker = self._asker
        troubles = tuple(trouble for each in (asker, *self._beside) for trouble in each.troubles)
        known = asker.connected, asker.last_answer_at, asker.last_error
        return HostStatus(self._host.address, self.port, *known, troubles)

    async def _check_available(self) -> None:
        """Asked until the answer is yes: a no may be an old plugin about to be replaced."""
        if not self._is_available:
            self._is_available = await self._speaks(await self.versions())
        if not self._is_available:
            raise NotAvailable("the host's plugin speaks none of our versions of its API: asked again at the next use")

    async def _settings(self, etag: str, most_bytes: int) -> Answer:
        request = self._catalogue.vm_settings(self._ids(), etag, self._new_id(), most_bytes)
        answer = await self._asker.once(request)
        if answer.status in {200, 304}:
            self._asker.note_answer()
        else:
            self._asker.last_error = str(
                gone(answer, request)
                if judge(answer.status, answer.body) is Verdict.GONE
                else HostRefused(answer.status, request.what)
            )
        return answer

    async def _fresh(self, send: "Callable[[PluginIds], Coroutine[Promise[Any], None, T]]") -> "T":
        """What `send` brings; once more with the ids of a fresh goal state when the host no longer knows these."""
        try:
            return await send(self._ids())
        except ResourceGone:
            await self._refresh()
            return await send(self._ids())

    async def _told(self, what: str, work: "Coroutine[Promise[Any], None, T]") -> "T":
        """What `work` brings; whoever accounts for the plugin's health hears how it went."""
        try:
            outcome = await work
        except HostUnreachable:
            self.on_outcome(what, False)
            raise
        except HostRefused as refused:
            # What storage answered is no fault of the plugin's.
            self.on_outcome(what, refused.status < FIRST_SERVER_ERROR or refused.status == BAD_GATEWAY)
            raise
        self.on_outcome(what, True)
        return outcome

    async def _ask_beside(self, limits: Limits, request: Request, policy: RetryPolicy) -> Answer:
        """By a connection of its own, which ends with the request."""
        if self._closed:
            raise HostUnreachable(f"{request.what}: given up on our side")
        asker = self._new_asker(limits)
        self._beside.add(asker)
        try:
            return await asker.ask(request, policy)
        except HostError:
            self._asker.last_error = asker.last_error
            raise
        finally:
            self._beside.discard(asker)
            asker.close()

    def _new_asker(self, limits: Limits) -> Asker:
        return Asker(self._host.around, self._host.beside(limits, self.port))

    def _new_id(self) -> str:
        """A random UUID (RFC 9562, version 4). The module of that name would bring half a megabyte with it."""
        number = bytearray(self._random_bytes(16))
        number[6] = number[6] & 0x0F | 0x40
        number[8] = number[8] & 0x3F | 0x80
        text = number.hex()
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
