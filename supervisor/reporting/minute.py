# SPDX-License-Identifier: Apache-2.0
"""Owns what is asked once a minute: whether the host plugin and the instance metadata service are well.

Runs in the supervisor. Facts about this VM come from a parser, and only when their bytes are new.
"""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from ipc.errors import HostError
from ipc.messages import InstanceMetadata, ParseInstanceMetadata
from supervisor.contact import UnusableDocument
from supervisor.loop import Loop, Promise
from supervisor.reporting.health_service import PERIOD_S, HealthService
from supervisor.wire.metadata import is_service_failure

# The parser's way: a request, the document's name, its bytes, and what is to come back.
Read: TypeAlias = Callable[
    [ParseInstanceMetadata, str, bytes, type[InstanceMetadata]], Coroutine[Promise[Any], None, InstanceMetadata]
]


class HealthAsked(Protocol):
    """The HostGAPlugin, as far as it is asked how it is."""

    def health(self) -> Coroutine[Promise[Any], None, None]: ...


class MetadataService(Protocol):
    """The instance metadata service."""

    def instance(self) -> Coroutine[Promise[Any], None, bytes]: ...


class InstanceFacts:
    """What the instance metadata service says of this VM; None before it said anything that can be read."""

    def __init__(self, parse: Read, service: MetadataService) -> None:
        self.facts: InstanceMetadata | None = None
        self._parse = parse
        self._service = service
        self._seen = b""
        self._problem = ""

    async def ask(self) -> str:
        """Ask anew; what is wrong with the service, empty if nothing is (wire-protocol.md 14)."""
        try:
            content = await self._service.instance()
        except HostError as error:
            # Not reached: that tells nothing about the service.
            return str(error) if is_service_failure(error) else ""
        if content != self._seen:
            await self._read(content)
        return self._problem

    async def _read(self, content: bytes) -> None:
        try:
            facts = await self._parse(ParseInstanceMetadata(), "instance-metadata", content, InstanceMetadata)
        except UnusableDocument as error:
            self._seen, self._problem = content, str(error)
            return
        except HostError:
            return  # no parser to be had: the next round tries again
        self._seen, self._problem = content, "" if facts.is_whole else "it knows no network interface of this VM"
        self.facts = facts


class Minute:
    """The round of questions, and the post of what was heard; `begun` is fulfilled with the first."""

    def __init__(self, loop: Loop, plugin: HealthAsked, instance: InstanceFacts, service: HealthService) -> None:
        self.begun: Promise[None] = Promise()
        self._loop = loop
        self._plugin = plugin
        self._instance = instance
        self._service = service

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.once()
            self.begun.fulfil(None)
            await self._loop.sleep(PERIOD_S)

    async def once(self) -> None:
        """One round. How the plugin is, its client tells whoever wants to know, of this question as of every other."""
        with suppress(HostError):
            await self._plugin.health()
        self._service.heard("InstanceMetadataHeartbeat", await self._instance.ask())
        await self._service.post()
