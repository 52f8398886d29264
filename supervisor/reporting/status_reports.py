# SPDX-License-Identifier: Apache-2.0
"""Owns when the host is told this VM's status, and by which channel: on a change at once, and every minute.

Runs in the supervisor. One upload is under way at a time; whatever changes meanwhile goes with the next one.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from ipc.errors import HostError, ResourceGone, StateError
from ipc.messages import StatusBlob
from supervisor.loop import Loop, Promise
from supervisor.reporting.aggregate import Clean, Facts, document

# wire-protocol.md 13. The host takes a VM for silent after some minutes without.
PERIOD_S = 60.0
# The same trouble is said again after so long.
REPEAT_S = 3600.0
PLUGIN, STORAGE = "host plugin", "storage"
NO_BLOB = "the goal state names no place for the status"

Work = Coroutine[Promise[Any], None, None]


class Plugin(Protocol):
    """The HostGAPlugin, as far as it takes a status."""

    def put_status(self, blob: StatusBlob, content: bytes) -> Work: ...


class Storage(Protocol):
    """The way to storage without the host plugin."""

    def put(self, blob: StatusBlob, content: bytes) -> Work: ...


class Surroundings(msgspec.Struct, frozen=True):
    """What the reports draw on. `facts` are those of now; `fetch_anew` fetches the goal state whatever its number, and
    may raise HostError; `keep_copy` writes the document beside the goal state, and may raise StateError.

    `noted` is told after each attempt whether the host has accepted the status, and if not, why."""

    facts: Callable[[], Facts]
    fetch_anew: Callable[[], Work]
    keep_copy: Callable[[bytes], None]
    clean: Clean
    say: Callable[[str, str, str], None]
    noted: Callable[[bool, str], None] = lambda _succeeded, _text: None


class StatusReports:
    """The uploads. `last_accepted_at` (wall seconds since 1970) is None before the first that a host has accepted;
    `channel` is the one that it took; `trouble` is why the last one failed, empty if it did not."""

    def __init__(self, loop: Loop, plugin: Plugin, storage: Storage, around: Surroundings, retry_s: float) -> None:
        """`retry_s`: so long after a failure it is tried again, unless something changes before."""
        self.last_accepted_at: float | None = None
        self.channel = ""
        self.errors_in_a_row = 0
        self.errors = 0
        self.trouble = ""
        self._loop = loop
        self._plugin = plugin
        self._storage = storage
        self._around = around
        self._retry_s = min(retry_s, PERIOD_S)
        self._accepted: Facts | None = None
        self._has_changed = False
        self._due_at = float("-inf")
        self._woken: Promise[None] = Promise()
        self._anew_for = ""
        # Storage takes a process with TLS each time: what fails again and again is tried less and less often.
        self._storage_due_at, self._storage_pause_s = float("-inf"), self._retry_s
        self._storage_trouble = ""
        self._said_at = float("-inf")

    def changed(self) -> None:
        """Something that a status tells may have changed: upload it at once, or right after the upload under way."""
        self._has_changed = True
        self._woken.fulfil(None)

    async def run(self) -> None:
        """For ever."""
        clock = self._loop.clock
        while True:
            self._has_changed = False
            if clock.monotonic() >= self._due_at or self._around.facts() != self._accepted:
                await self.once()
                self._due_at = clock.monotonic() + (self._retry_s if self.trouble else PERIOD_S)
            await self._rest()

    async def once(self) -> None:
        """One upload, if there is anywhere to; trouble is noted and the next one tries again."""
        try:
            blob = await self._place()
            if blob is None:
                return
            facts = self._around.facts()
            content = document(facts, self._loop.clock.wall(), self._around.clean)
            self._keep(content)
            self.channel = await self._upload(blob, content)
        except HostError as error:
            self._note_trouble(str(error))
            return
        self._note_success(facts)

    async def _place(self) -> StatusBlob | None:
        """Where the status goes; None as long as no goal state is known. HostError where one names no place."""
        adopted = self._around.facts().adopted
        if adopted is not None and not adopted.goal_state.status_blob.url and self._anew_for != adopted.id:
            # Once for each goal state: one may be served before it is whole.
            self._anew_for = adopted.id
            await self._around.fetch_anew()
            adopted = self._around.facts().adopted
        if adopted is None:
            return None
        if not adopted.goal_state.status_blob.url:
            raise HostError(f"{NO_BLOB}; it was fetched anew once, and the next one is waited for")
        return adopted.goal_state.status_blob

    async def _upload(self, blob: StatusBlob, content: bytes) -> str:
        """The channel that took it. HostError names why neither did."""
        try:
            await self._plugin.put_status(blob, content)
        except ResourceGone:
            # The ids have been fetched anew and tried already: storage would be told of a container that is none.
            raise
        except HostError as error:
            through_plugin = error
        else:
            return PLUGIN
        return await self._upload_directly(blob, content, f"by the host plugin: {through_plugin}")

    async def _upload_directly(self, blob: StatusBlob, content: bytes, why: str) -> str:
        """By storage, if it is its turn; `why` the host plugin did not take it."""
        clock = self._loop.clock
        if clock.monotonic() >= self._storage_due_at:
            try:
                await self._storage.put(blob, content)
            except HostError as error:
                self._storage_trouble = str(error)
                self._storage_due_at = clock.monotonic() + self._storage_pause_s
                self._storage_pause_s = min(2 * self._storage_pause_s, PERIOD_S)
        if clock.monotonic() < self._storage_due_at:
            raise HostError(f"{why}; by storage: {self._storage_trouble}")
        self._storage_due_at, self._storage_pause_s = float("-inf"), self._retry_s
        return STORAGE

    def _keep(self, content: bytes) -> None:
        try:
            self._around.keep_copy(content)
        except (StateError, OSError) as error:
            self._say_seldom(f"the copy of the status on this machine: {error}")

    async def _rest(self) -> None:
        """Wait for a change, or until the next upload is due whatever has changed."""
        if self._has_changed:
            return
        woken = self._woken = Promise()
        cancel = self._loop.call_later(self._due_at - self._loop.clock.monotonic(), lambda: woken.fulfil(None))
        try:
            await woken
        finally:
            cancel()

    def _note_success(self, facts: Facts) -> None:
        if self.trouble:
            self._around.say("info", "status", f"accepted again, after {self.errors_in_a_row} failed uploads")
        self._accepted = facts
        self.last_accepted_at = self._loop.clock.wall()
        self.errors_in_a_row, self.trouble = 0, ""
        self._around.noted(True, "")

    def _note_trouble(self, text: str) -> None:
        self.errors += 1
        self.errors_in_a_row += 1
        is_new, self.trouble = text != self.trouble, text
        self._say_seldom(f"not accepted: {text}; tried again within {self._retry_s:g} s", is_new=is_new)
        self._around.noted(False, text)

    def _say_seldom(self, text: str, *, is_new: bool = False) -> None:
        now = self._loop.clock.monotonic()
        if is_new or now - self._said_at >= REPEAT_S:
            self._around.say("warning", "status", text)
            self._said_at = now
