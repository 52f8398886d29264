# SPDX-License-Identifier: Apache-2.0
"""Owns the observations about the host's own services, and when they are posted (wire-protocol.md 12).

Runs in the supervisor. One post a minute, with each signal at most once; a signal is unhealthy only after a time
without any success.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Literal

import msgspec

from ipc.errors import HostError
from supervisor.compatibility import AGENT_NAME
from supervisor.loop import Loop, Promise

Signal = Literal[
    "GuestAgentPluginHeartbeat",
    "GuestAgentPluginStatus",
    "GuestAgentPluginVersions",
    "GuestAgentPluginArtifact",
    "InstanceMetadataHeartbeat",
]
PERIOD_S = 60.0
# config-cli.md 7: so long a signal has to fail without a success to be told as unhealthy.
PATIENCE_S = 300.0
METADATA_PATIENCE_S = 180.0
MOST_OBSERVATIONS = 10
NAME_CHARACTERS, TEXT_CHARACTERS = 64, 128

Post = Callable[[bytes], Coroutine[Promise[Any], None, None]]


class Observation(msgspec.Struct, frozen=True):
    """One signal as it is told; `value` is why it is unhealthy."""

    name: str
    is_healthy: bool
    description: str = ""
    value: str = ""


def report(observations: list[Observation]) -> bytes:
    """The body of a post: at most ten, their texts as short as the service has them."""
    return msgspec.json.encode(
        {
            "Api": "reporttargethealth",
            "Version": "1.0",
            "Source": AGENT_NAME,
            "Observations": [
                {
                    "ObservationName": each.name[:NAME_CHARACTERS],
                    "IsHealthy": each.is_healthy,
                    "Description": each.description[:TEXT_CHARACTERS],
                    "Value": each.value[:TEXT_CHARACTERS],
                }
                for each in observations[:MOST_OBSERVATIONS]
            ],
        }
    )


class HealthService:
    """Collects what is heard of each signal, and posts it."""

    def __init__(self, loop: Loop, post: Post, clean: Callable[[str], str]) -> None:
        self.failed_posts = 0
        self._loop = loop
        self._post = post
        self._clean = clean
        self._failing_since: dict[Signal, float] = {}
        self._heard: dict[Signal, Observation] = {}

    def heard(self, signal: Signal, problem: str = "", description: str = "") -> None:
        """`signal` was tried, and `problem` is what went wrong, empty if nothing did; `description`: who tried it."""
        now = self._loop.clock.monotonic()
        if not problem:
            self._failing_since.pop(signal, None)
            self._heard[signal] = Observation(signal, True, description)
            return
        patience_s = METADATA_PATIENCE_S if signal == "InstanceMetadataHeartbeat" else PATIENCE_S
        unhealthy = now - self._failing_since.setdefault(signal, now) >= patience_s
        told = self._clean(problem) if unhealthy else ""
        self._heard[signal] = Observation(signal, not unhealthy, description, told)

    async def post(self) -> None:
        """Tell what was heard since the last post; gone whatever becomes of it, as the next tells the same anew."""
        observations = list(self._heard.values())
        self._heard.clear()
        if not observations:
            return
        try:
            await self._post(report(observations))
        except HostError:
            self.failed_posts += 1
