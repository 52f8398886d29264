# SPDX-License-Identifier: Apache-2.0
"""Owns the rig's commands about workers that are begun before their job; runs in the rig's supervisor."""

from typing import Any

from tests.jail.rig_commands import Commands


class WithPrepared(Commands):
    """All commands of the rig."""

    async def on_prepare(self, kind: str) -> dict[str, Any]:
        """Begin a worker before its job; what is there of its kind at once, and how many of its kind died on a job."""
        self._fleet.prepared.begin(kind)
        return await self.on_waiting(kind)

    async def on_waiting(self, kind: str) -> dict[str, Any]:
        """The workers of a kind: process numbers by their states."""
        await self._loop.sleep(0)
        there = [worker for worker in self._births.workers.values() if worker.kind == kind]
        states = {state: [each.pid for each in there if each.state == state] for state in ("starting", "ready")}
        return {**states, "restarts": self._fleet.restarts[kind].total}

    async def on_drop(self) -> dict[str, Any]:
        await self._loop.sleep(0)
        self._fleet.prepared.drop()
        return {}

    async def on_wind_up(self, patience_s: float) -> dict[str, Any]:
        began = self._loop.clock.monotonic()
        await self._fleet.wind_up(patience_s)
        return {"seconds": self._loop.clock.monotonic() - began}
