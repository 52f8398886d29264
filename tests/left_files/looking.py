# SPDX-License-Identifier: Apache-2.0
"""Owns the rig's commands about what handlers have left; runs in the rig's supervisor, with its mutants in place."""

from typing import Any

import msgspec

from supervisor.extensions.status_files import Place, StatusFiles
from tests.jail.rig_commands import Commands


class Looking(Commands):
    """The agent's own StatusFiles, with real parsers, steered by the test."""

    _files: StatusFiles
    _places: list[Place]

    async def on_watch(self, lib: str, places: list[dict[str, Any]]) -> dict[str, Any]:
        """From now on these places, by their fields, below `lib`."""
        await self._loop.sleep(0)
        self._changes = 0
        self._places = msgspec.convert(places, list[Place])
        self._files = StatusFiles(self._loop, self._fleet, lib)
        self._files.on_change = self._note
        self._files.watch(self._places)
        return {}

    async def on_look(self, handler: str = "", times: int = 1) -> dict[str, Any]:
        """Look so often at one handler, or at all one after the other; what is found then."""
        for _ in range(times):
            for name in dict.fromkeys([handler] if handler else [place.handler for place in self._places]):
                await self._files.look(name)
        return await self.on_found()

    async def on_begin_look(self) -> dict[str, Any]:
        """What is known right after all were begun to be looked at."""
        self._files.begin_look()
        return await self.on_found()

    async def on_found(self) -> dict[str, Any]:
        await self._loop.sleep(0)
        found = {place.handler: msgspec.to_builtins(self._files.found(place)) for place in self._places}
        return {"found": found, "changes": self._changes}

    def _note(self) -> None:
        self._changes += 1
