# SPDX-License-Identifier: Apache-2.0
"""Owns whether the agent talks to the host once provisioning is over, and that all it takes for that is loaded in time.

Runs in the supervisor.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from supervisor import lean
from supervisor.parts import Parts
from supervisor.status import HostContact

if TYPE_CHECKING:
    from supervisor.extensions.shown import ShownExtension
    from supervisor.host_side import HostSide

TAKES = ("ipc.pair", "supervisor.wire.host", "supervisor.wire.secure_channel")


class Rounds:
    """The agent's life after provisioning; `side` is there from `prepare` on, `trouble` tells `ps` what is not well."""

    def __init__(self, parts: Parts) -> None:
        self.side: HostSide | None = None
        self._parts = parts
        self._asleep = ""

    @property
    def trouble(self) -> str:
        """Why the host is not asked, or why the last poll brought nothing."""
        return self._asleep or (self.side.trouble if self.side is not None else "")

    @property
    def contact(self) -> HostContact:
        """What passes between the host and this agent."""
        return self.side.contact if self.side is not None else HostContact()

    def goal_state(self) -> dict[str, object]:
        """The goal state in force, its handlers and the history, as plain data."""
        return self.side.goal_state() if self.side is not None else {}

    def extensions(self) -> dict[str, object]:
        """What `agent-supervisor extensions` shows; nothing before provisioning is over."""
        return self.side.extensions_shown() if self.side is not None else {}

    def handlers(self) -> "tuple[ShownExtension, ...]":
        """The same as far as `ps` shows it."""
        return self.side.handlers_shown() if self.side is not None else ()

    def certificates(self) -> dict[str, object]:
        """What `agent-supervisor certificates` shows; nothing before provisioning is over."""
        return self.side.certificates_shown() if self.side is not None else {}

    def stay_away(self, why: str) -> None:
        """No poll, for as long as this process lives: the agent was told to do nothing."""
        if self._parts.contact.channel is not None:
            self._parts.contact.channel.rest()
        self._asleep = f"asleep, since {why}; remove it and start the agent to have goal states asked for"
        self._parts.say("info", "host", self._asleep)

    def prepare(self) -> None:
        """Load what a poll takes that nothing has loaded yet: soon this process can open no such file any more."""
        lean.import_zmq()
        lean.import_dataclasses()
        for name in TAKES:
            import_module(name)
        self.side = import_module("supervisor.host_side").HostSide(self._parts)

    async def run(self) -> None:
        """For ever; nothing without `prepare`."""
        if self.side is not None:
            await self.side.run()

    def close(self) -> None:
        """Hang up."""
        if self.side is not None:
            self.side.close()
        self._parts.contact.close()
