# SPDX-License-Identifier: Apache-2.0
"""Owns what the two sources of goal states say at one moment: the WireServer what is new, the HostGAPlugin what holds.

Runs in the supervisor. It puts nothing in force.
"""

from collections.abc import Callable

import msgspec

from ipc.errors import StateError
from ipc.messages import ExtensionsGoalState, GoalState
from supervisor.goal_state.adopted import Adopted
from supervisor.goal_state.choice import choose, is_outdated
from supervisor.goal_state.documents import Documents, Fetched
from supervisor.goal_state.fast_track import FastTrack
from supervisor.goal_state.vm_settings import Heard, VmSettingsPoll
from supervisor.loop import Promise, TimedOut
from supervisor.parts import Forget, Parts

NO_VM_SETTINGS, NOT_HEARD = Heard("none"), Heard("unknown", problem="it has not answered yet")
PLUGIN_PATIENCE_S = 3.0


class News(msgspec.Struct, frozen=True):
    """What one poll brought. `wire` is None where the WireServer has nothing new; `forced`: all was asked for anew."""

    wire: Fetched | None
    heard: Heard
    forced: bool

    @property
    def is_any(self) -> bool:
        """Whether anything is new."""
        return self.wire is not None or self.heard.is_new

    @property
    def etag(self) -> str:
        """That of the vmSettings which hold; empty where there are none."""
        return self.heard.etag if self.heard.standing == "given" else ""


class Sources:
    """Asks both. With `settings` None the HostGAPlugin is not asked (Debug.EnableFastTrack=n)."""

    def __init__(self, parts: Parts, documents: Documents, settings: VmSettingsPoll | None) -> None:
        self._contact = parts.contact
        self._loop = parts.loop
        self._say = parts.say
        self._secrets = Secrets(parts.keep_secret)
        self._documents = documents
        self._settings = settings
        self._fast_track = FastTrack(parts.layout.lib, parts.loop.clock)
        # The question to the HostGAPlugin that is under way.
        self._asked: Promise[Heard] | None = None
        # The WireServer's that was acted on last.
        self._taken: GoalState | None = None

    @property
    def has_fast_track(self) -> bool:
        """Whether the HostGAPlugin has vmSettings for us, by its last word."""
        return self._settings is not None and self._settings.is_supported

    async def gather(self, *, forced: bool) -> News:
        """What both say now. HostError when the WireServer's documents can't be had, or one of them is unusable."""
        asking = self._loop.start("vm settings", self._hear(forced=forced), at_once=True)
        goal_state = self._contact.goal_state
        fetched = None
        try:
            if goal_state is not None and (goal_state != self._taken or forced):
                fetched = await self._documents.fetch(goal_state, self._contact.document)
                self._secrets.keep("wire", fetched.extensions)
        finally:
            await self._loop.settled(asking)
        return News(fetched, asking.result(), forced)

    def settle(self, news: News) -> None:
        """`news` have been acted on, and are none any more."""
        if news.wire is not None:
            self._taken = news.wire.goal_state
        if self._settings is not None:
            self._settings.settle()

    def choose(self, current: Adopted | None, news: News) -> Adopted | None:
        """What the news would put in force; None if `current` stays."""
        wire = self._of_wire(news) if news.wire is not None else None
        return choose(current, wire, self._of_settings(news.heard), settings_are_new=news.heard.is_new)

    def counts_as_outdated(self, goal_state: ExtensionsGoalState, heard: Heard) -> bool:
        """Whether one of the WireServer's is older than what FastTrack brought, as far as can be told now."""
        return is_outdated(goal_state.created, self._fast_track.created, settings_count=heard.standing == "given")

    async def _hear(self, *, forced: bool) -> Heard:
        """What the HostGAPlugin says; one that is slow is heard by the next poll, so that the WireServer's goal states
        don't wait for it."""
        asked = self._asked or self._loop.start("vm settings", self._ask(forced=forced), at_once=True)
        self._asked = asked
        try:
            heard = await self._loop.within(asked, PLUGIN_PATIENCE_S)
        except TimedOut:
            return NOT_HEARD
        self._asked = None
        return heard

    async def _ask(self, *, forced: bool) -> Heard:
        heard = await self._settings.ask(forced=forced) if self._settings is not None else NO_VM_SETTINGS
        if heard.is_new and heard.settings is not None:
            self._note_source(heard.settings.goal_state)
        return heard

    def _of_wire(self, news: News) -> Adopted | None:
        fetched = news.wire
        if fetched is None:
            return None
        return Adopted(
            id=f"incarnation_{fetched.goal_state.incarnation}",
            source="Fabric",
            incarnation=fetched.goal_state.incarnation,
            etag="",
            goal_state=fetched.extensions,
            adopted_s=self._loop.clock.wall(),
            is_outdated=self.counts_as_outdated(fetched.extensions, news.heard),
            bundle=fetched.bundle,
        )

    def _of_settings(self, heard: Heard) -> Adopted | None:
        """What vmSettings want; those of the source Fabric may lack certificates, and are not followed."""
        goal_state = self._contact.goal_state
        if heard.settings is None or heard.settings.goal_state.source == "Fabric":
            return None
        return Adopted(
            id=f"etag_{heard.etag}",
            source=heard.settings.goal_state.source,
            incarnation=goal_state.incarnation if goal_state is not None else "",
            etag=heard.etag,
            goal_state=heard.settings.goal_state,
            adopted_s=self._loop.clock.wall(),
            bundle=heard.bundle,
        )

    def _note_source(self, goal_state: ExtensionsGoalState) -> None:
        """Remember for later starts when the newest goal state by FastTrack was created."""
        self._secrets.keep("plugin", goal_state)
        try:
            if goal_state.source == "FastTrack":
                self._fast_track.note(goal_state.created)
            else:
                self._fast_track.clear()
        except StateError as error:
            self._say("warning", "goal state", f"{error}; it is in force all the same")


class Secrets:
    """The SAS tokens of the newest goal state of each source: in no text of ours as long as they are in use."""

    def __init__(self, register: Callable[[str], Forget]) -> None:
        self._register = register
        self._kept: dict[str, list[Forget]] = {}

    def keep(self, source: str, goal_state: ExtensionsGoalState) -> None:
        """Those of `goal_state` from now on, in the place of those that `source` had before."""
        queries = (url.partition("?")[2] for url in (goal_state.status_blob.url, goal_state.profile_url))
        former = self._kept.get(source, [])
        self._kept[source] = [self._register(query) for query in queries if query]
        for forget in former:
            forget()
