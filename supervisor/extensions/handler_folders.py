# SPDX-License-Identifier: Apache-2.0
"""Owns handlers' folders below Lib.Dir as the supervisor has them made, carried over and removed, and their manifests.

Runs in the supervisor, which writes none of them itself: a committer does, one at a time. What was placed is kept in
mind where handlers can't change it.
"""

import os
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import msgspec

from ipc.descriptors import close_all
from ipc.errors import AgentError, CommitError
from ipc.messages import (
    CarryOver,
    CommitFailed,
    Committed,
    HandlerManifest,
    Message,
    PackageUnpacked,
    PlaceHandler,
    RemoveHandler,
)
from supervisor.audit_log_entry import Decision, Entry
from supervisor.files import PRIVATE, make_folder, remove, write_whole
from supervisor.loop import Promise
from supervisor.parts import Parts

COMMITTER = "handler-files"
FOLDER_MODE = 0o700
MOST_MANIFEST_BYTES = 1 << 20


class Placeable(Protocol):
    """What a folder is made of. `descriptors`: index, text of the manifest, contents."""

    manifest: HandlerManifest
    unpacked: PackageUnpacked

    @property
    def descriptors(self) -> tuple[int, int, int]: ...


class HandlerFolders:
    """All folders of one machine."""

    def __init__(self, parts: Parts) -> None:
        self._ = parts
        self._folder = f"{parts.layout.state}/handlers"
        # Why what is left of a folder, beside it, can't go: as the last order has met it.
        self.stays: dict[str, str] = {}
        self._busy = False
        self._queue: deque[Promise[None]] = deque()

    async def place(self, obtained: Placeable, folder: str, kept: Sequence[str] = ()) -> None:
        """Lay it down as `folder` of Lib.Dir, whole or not at all; `kept` are subfolders of what is there that stay.
        CommitError, StateError."""
        told = obtained.unpacked
        order = PlaceHandler(self._.layout.lib, folder, told.size, told.sha256, tuple(kept))
        await self._commit(order, obtained.descriptors)
        self.keep_manifest(folder, obtained.manifest)

    async def carry_over(self, source: str, target: str) -> None:
        """What an upgrade takes along from one folder to the other. CommitError."""
        await self._commit(CarryOver(self._.layout.lib, source, target))

    async def remove(self, folder: str) -> None:
        """Remove the folder, and what is known of it. CommitError, StateError."""
        await self._commit(RemoveHandler(self._.layout.lib, folder))
        remove(f"{self._folder}/{folder}")

    def manifest_of(self, folder: str) -> HandlerManifest | None:
        """That of what was placed as `folder`; None where that is not known. Handlers can't change it."""
        try:
            descriptor = os.open(f"{self._folder}/{folder}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            return msgspec.msgpack.decode(os.read(descriptor, MOST_MANIFEST_BYTES), type=HandlerManifest, strict=True)
        except (OSError, msgspec.DecodeError):
            return None
        finally:
            os.close(descriptor)

    def keep_manifest(self, folder: str, manifest: HandlerManifest) -> None:
        """Of a folder that another agent has placed. StateError."""
        make_folder(self._folder, FOLDER_MODE)
        write_whole(f"{self._folder}/{folder}", msgspec.msgpack.encode(manifest), PRIVATE)

    @property
    def is_busy(self) -> bool:
        """Whether a folder is being changed, and parts of it lie aside for that."""
        return self._busy

    async def _ask(
        self, kind: str, request: Message, given: tuple[int, ...], final: tuple[type[Message], ...]
    ) -> Message:
        answer, more = (await self._.fleet.do(kind, request, given, final=final))[-1]
        close_all(more)
        return answer

    async def _commit(self, order: PlaceHandler | CarryOver | RemoveHandler, given: tuple[int, ...] = ()) -> None:
        """One after the other: a large folder takes longer than a worker is waited for."""
        if self._busy:
            turn: Promise[None] = Promise()
            self._queue.append(turn)
            await turn
        self._busy = True
        name = type(order).__name__
        try:
            self._note(name, "intended", _about(order))
            answer = await self._ask(COMMITTER, order, given, (Committed,))
            if not isinstance(answer, Committed):
                problem = answer.problem if isinstance(answer, CommitFailed) else type(answer).__name__
                raise CommitError(f"{_about(order)}: {problem}")
            self.stays = {each.folder: each.why for each in answer.aside}
            self._note(name, "done", f"{_about(order)}: {answer.fact}")
        except AgentError as error:
            self._note(name, "failed", str(error))
            raise
        finally:
            self._busy = False
            if self._queue:
                self._busy = True
                self._queue.popleft().fulfil(None)

    def _note(self, request: str, decision: Decision, detail: str) -> None:
        self._.audit(Entry("commit", kind=COMMITTER, request=request, decision=decision, detail=detail))


def _about(order: PlaceHandler | CarryOver | RemoveHandler) -> str:
    return f"{order.source} to {order.target}" if isinstance(order, CarryOver) else order.folder
