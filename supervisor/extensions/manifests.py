# SPDX-License-Identifier: Apache-2.0
"""Owns which version of a handler is to be installed, and what a handler's manifest says (extensions.md 5 and 6).

Runs in the supervisor, which looks into neither document: a fresh parser does.
"""

import os
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

import msgspec

from ipc.descriptors import close_all
from ipc.errors import AgentError, CommitError
from ipc.messages import (
    HandlerManifest,
    InputRefused,
    PackageChoice,
    ParseHandlerManifest,
    ParsePackageManifest,
    Plugin,
)
from supervisor.contact import Contact
from supervisor.extensions import naming
from supervisor.extensions.left_file import TooLarge, Unreadable, copy, enter
from supervisor.fleet import Fleet
from supervisor.loop import Promise
from supervisor.prepared import Errand

MOST_BYTES = 1 << 20
BUDGET_S = 120.0
HANDLER_MANIFEST = "HandlerManifest.json"
# extensions.md 8: what the host is told of it.
NO_MANIFEST, BAD_MANIFEST = 1002, 1003


class Choice(msgspec.Struct, frozen=True):
    """The version to be installed, where its package stands, and where that was told."""

    version: str
    uris: tuple[str, ...]
    manifest_url: str


class NoVersion(AgentError):
    """The handler's manifest has no version that matches the wanted one: asking again does not help."""


class Artifacts(Protocol):
    """Whoever fetches documents, by whatever channel."""

    def fetch(  # noqa: PLR0913 - as supervisor.artifacts has it
        self, urls: Sequence[str], what: str, *, most_bytes: int, verify: bool, budget_s: float, errand: Errand
    ) -> Coroutine[Promise[Any], None, bytes]: ...


class Kept(Protocol):
    """Whoever keeps the manifests of folders where handlers can't change them."""

    def manifest_of(self, folder: str) -> HandlerManifest | None: ...

    def keep_manifest(self, folder: str, manifest: HandlerManifest) -> None: ...


class Manifests:
    """Of all handlers."""

    def __init__(self, artifacts: Artifacts, contact: Contact, fleet: Fleet, lib: str, kept: Kept) -> None:
        self._artifacts = artifacts
        self._contact = contact
        self._fleet = fleet
        self._lib = lib
        self._kept = kept

    async def choose(self, plugin: Plugin, *, verify: bool, is_new: bool) -> Choice:
        """What storage has for the wanted version. NoVersion; other AgentErrors where it can't be had now.

        `verify`: the host is to look whether the goal state names the document (hostga-plugin.md 4). `is_new`: its
        package is likely to be fetched next."""
        what = f"the manifest of {plugin.name}"
        document = await self._artifacts.fetch(
            plugin.locations,
            what,
            most_bytes=MOST_BYTES,
            verify=verify,
            budget_s=BUDGET_S,
            errand=Errand(plugin.name, is_over=not is_new),
        )
        request = ParsePackageManifest(plugin.version)
        found = await self._contact.parse(request, f"{plugin.name}-manifest", document, PackageChoice)
        if not found.version:
            raise NoVersion(f"{plugin.name} has no version {plugin.version}: {found.problem}")
        return Choice(found.version, found.uris, plugin.locations[0])

    async def of(self, handler: str, version: str) -> HandlerManifest:
        """What the handler's commands are. CommitError, which says where there is no such manifest, or a bad one."""
        folder = naming.folder_name(handler, version)
        kept = self._kept.manifest_of(folder)
        if kept is None:
            kept = await self._left(folder)
            self._kept.keep_manifest(folder, kept)
        return kept

    async def _left(self, folder: str) -> HandlerManifest:
        """Of a handler that another agent has installed: its own copy is all that there is."""
        path = f"{self._lib}/{folder}/{HANDLER_MANIFEST}"
        try:
            at = enter(self._lib, folder)
            try:
                _, memfd = copy(at, HANDLER_MANIFEST, MOST_BYTES)
            finally:
                os.close(at)
        except (OSError, Unreadable, TooLarge) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise CommitError(f"{path} can't be read: {said}") from None
        try:
            received = await self._fleet.do("parser", ParseHandlerManifest(), (memfd,), final=(HandlerManifest,))
        finally:
            os.close(memfd)
        answer, descriptors = received[-1]
        close_all(descriptors)
        if isinstance(answer, HandlerManifest):
            return answer
        said = f"{answer.where}: {answer.problem}" if isinstance(answer, InputRefused) else type(answer).__name__
        raise CommitError(f"{path} is no manifest: {said}")
