# SPDX-License-Identifier: Apache-2.0
"""Owns the acquaintance with the host: protocol version, goal state, and the ids that every report must carry.

Runs in the supervisor. It hands every document to a fresh parser and never looks into one itself.
"""

import os
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ipc.descriptors import close_all, sealed_memfd
from ipc.errors import AgentError, HostError, ResourceGone
from ipc.messages import GoalState, InputRefused, Message, ParseGoalState, ParseVersions, Versions
from supervisor.fleet import Fleet
from supervisor.loop import Loop, Promise
from supervisor.wire.report import RoleIds, State

PROTOCOL = "2012-11-30"
# wire-protocol.md 3, request 2: a new VM's role instance may come a moment after its goal state.
ROLE_INSTANCE_TRIES = 6
ROLE_INSTANCE_PAUSE_S = 0.5
# wire-protocol.md 1.2: the next round of looking for the host.
ROUND_PAUSE_S = 10.0

if TYPE_CHECKING:
    from supervisor.wire.host import WireServer
    from supervisor.wire.latching import Parse
    from supervisor.wire.secure_channel import SecureChannel

    Secure = Callable[[WireServer, Parse], SecureChannel]

Say = Callable[[str, str, str], None]
T = TypeVar("T", bound=Message)


class UnknownProtocol(HostError):
    """The host speaks no version of the protocol that we know."""


class NoRoleInstance(HostError):
    """The goal state still names no role instance."""


class BadDocument(HostError):
    """A document of the host that its parser refused, or died on."""


class UnusableDocument(BadDocument):
    """One that is not what it has to be: the same bytes would be refused again."""


class Contact:
    """What is known of the host's side, and the reports to it; `trouble` is why `meet` has to begin anew, for `ps`."""

    def __init__(
        self, loop: Loop, fleet: Fleet, connect: "Callable[[], WireServer]", say: Say, secure: "Secure | None" = None
    ) -> None:
        """`connect` makes the client, at its first use: loading it takes as long as beginning two workers. `secure`
        makes what tends the secure channel of that client."""
        self.goal_state: GoalState | None = None
        self.channel: SecureChannel | None = None
        self.trouble = ""
        self._loop = loop
        self._fleet = fleet
        self._connect = connect
        self._secure = secure
        self._known_host: WireServer | None = None
        self._say = say
        self._document = b""

    @property
    def host(self) -> "WireServer":
        """The client to the host."""
        if self._known_host is None:
            self._known_host = self._connect()
        return self._known_host

    @property
    def known_host(self) -> "WireServer | None":
        """The same, if there is one already."""
        return self._known_host

    @property
    def document(self) -> bytes:
        """The text that `goal_state` was read from; empty without one."""
        return self._document

    def close(self) -> None:
        """Hang up."""
        if self._known_host is not None:
            self._known_host.close()

    async def meet(self) -> None:
        """Return once version and goal state are known; however long the host takes, it is asked again."""
        while True:
            try:
                await self._begin_channel()
                await self._check_version()
                await self._await_role_instance()
                self.trouble = ""
                return
            except HostError as error:
                self.trouble = f"{error}; asked again every {ROUND_PAUSE_S:g} s"
                self._say("warning", "host", self.trouble)
                await self._loop.sleep(ROUND_PAUSE_S)

    async def refresh(self, on_news: Callable[[], None] = lambda: None) -> bool:
        """Fetch the goal state; True when its bytes are new, and then they are parsed, after `on_news` was called.
        HostError when that fails."""
        document = await self.host.fetch_goal_state()
        if document is self._document:
            return False
        on_news()
        goal_state = await self.parse(ParseGoalState(), "goal-state", document, GoalState)
        self._document = document
        self.goal_state = goal_state
        return True

    async def report(self, state: State, substatus: str = "", description: str = "") -> None:
        """Send a health report until the host accepts it; after a 410 with the ids of a fresh goal state."""
        await self._tell(lambda ids: self.host.report_health(ids, state, substatus, description))

    async def report_role_properties(self, properties: Mapping[str, str]) -> None:
        """Send properties of this VM's role, by their names, with the patience of a question; else as `report`."""
        await self._tell(lambda ids: self.host.report_role_properties(ids, properties))

    async def _tell(self, send: "Callable[[RoleIds], Coroutine[Promise[Any], None, None]]") -> None:
        try:
            await send(self._ids())
        except ResourceGone:
            await self.refresh()
            await send(self._ids())

    def _ids(self) -> RoleIds:
        goal_state = self.goal_state
        if goal_state is None or goal_state.role_instance is None:
            raise NoRoleInstance("the goal state names no role instance yet")
        return RoleIds(goal_state.incarnation, goal_state.container_id, goal_state.role_instance.instance_id)

    async def _begin_channel(self) -> None:
        if self.channel is None and self._secure is not None:
            self.channel = self._secure(self.host, self.parse)
        if self.channel is not None:
            await self.channel.begin()

    async def _check_version(self) -> None:
        versions = await self.parse(ParseVersions(), "versions", await self.host.fetch_versions(), Versions)
        if versions.preferred != PROTOCOL and PROTOCOL not in versions.supported:
            raise UnknownProtocol(f"the host speaks {versions.preferred} and not {PROTOCOL}")

    async def _await_role_instance(self) -> None:
        for _ in range(ROLE_INSTANCE_TRIES):
            await self.refresh()
            if self.goal_state is not None and self.goal_state.role_instance is not None:
                return
            await self._loop.sleep(ROLE_INSTANCE_PAUSE_S)
        raise NoRoleInstance(f"the goal state named no role instance {ROLE_INSTANCE_TRIES} times")

    def _look_ahead(self, expected: type[Message]) -> None:
        """Another document follows the version, and every goal state but the very first: it wants a parser."""
        if (self.goal_state is None) is not (expected is GoalState):
            self._fleet.prepared.begin("parser")

    async def parse(self, request: Message, name: str, document: bytes, kind: type[T]) -> T:
        """`document` as a typed message, by a parser of its own; BadDocument when it is none or can't be read."""
        answer, descriptors = await self.parse_with(request, name, document, kind)
        close_all(descriptors)
        return answer

    async def parse_with(
        self, request: Message, name: str, document: bytes, kind: type[T]
    ) -> tuple[T, tuple[int, ...]]:
        """The same, with the sealed memfds that come with the answer, which are the caller's to close."""
        memfd = sealed_memfd(name, document)
        try:
            look_ahead = partial(self._look_ahead, kind)
            received = await self._fleet.do("parser", request, (memfd,), final=(kind,), at_work=look_ahead)
        except AgentError as error:
            raise BadDocument(f"the host's {name} document: {error}") from None
        finally:
            os.close(memfd)
        answer, descriptors = received[-1]
        if isinstance(answer, kind):
            return answer, descriptors
        close_all(descriptors)
        if isinstance(answer, InputRefused):
            raise UnusableDocument(f"the host's {name} document is unusable: {answer.where}: {answer.problem}")
        raise BadDocument(f"the host's {name} document: {type(answer).__name__} came back")
