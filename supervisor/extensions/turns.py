# SPDX-License-Identifier: Apache-2.0
"""Owns that nothing is done to a handler while something else is: who comes waits, and gives way to who comes later.

Runs in the supervisor.
"""

from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

from supervisor.extensions.procedure import Procedure, Tools
from supervisor.loop import Promise

T = TypeVar("T")


class Turns:
    """The procedures of all handlers, each alone with its handler."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._procedures: dict[str, Procedure] = {}
        self._taken: set[str] = set()
        # Who is next, one of each handler: however many goal states come while a command runs, the newest counts alone.
        self._next: dict[str, Promise[bool]] = {}

    def known(self, handler: str) -> Procedure | None:
        """The handler's, if it has had a turn."""
        return self._procedures.get(handler)

    def forget(self, wanted: Collection[str]) -> None:
        """What is known of handlers that are not `wanted`, unless something is being done to them."""
        kept = {*wanted, *self._taken}
        self._procedures = {name: each for name, each in self._procedures.items() if name in kept}

    def is_taken(self, handler: str) -> bool:
        """Whether anything is being done to it."""
        return handler in self._taken

    async def alone(self, handler: str, work: Callable[[Procedure], Coroutine[Promise[Any], None, T]]) -> T | None:
        """What `work` gives, once nothing else is done to the handler; None, and nothing was done, when somebody else
        has come for that meanwhile."""
        if handler in self._taken and not await self._turn(handler):
            return None
        self._taken.add(handler)
        try:
            return await work(self._procedures.setdefault(handler, Procedure(self._tools, handler)))
        finally:
            # Handed over as it is: nobody who comes this moment is before who waits.
            if (following := self._next.pop(handler, None)) is not None:
                following.fulfil(True)
            else:
                self._taken.discard(handler)

    def _turn(self, handler: str) -> Promise[bool]:
        """Whether it came to that, in the place of who waited until now."""
        if (before := self._next.pop(handler, None)) is not None:
            before.fulfil(False)
        mine: Promise[bool] = Promise()
        self._next[handler] = mine
        return mine
