# SPDX-License-Identifier: Apache-2.0
"""Owns what the agent tells of itself, and when (config-cli.md 7): heartbeat, measurements, what went wrong or well.

Runs in the supervisor. One timer for all periods: each is a multiple of the shortest.
"""

import os
from collections.abc import Callable, Mapping

import msgspec

from ipc.errors import StateError
from supervisor.compatibility import OWN_NAME
from supervisor.goal_state.adopted import OK, Adopted
from supervisor.loop import Loop
from supervisor.reporting import machine
from supervisor.telemetry.meters import Meters
from supervisor.telemetry.telemetry import Telemetry
from supervisor.telemetry.transitions import Transitions

TICK_S = 300.0
# Every so many ticks: half an hour, an hour.
HEARTBEAT_TICKS, MEMORY_TICKS = 6, 12
OWN_GROUP = "agent-supervisor"
# An update is the image maker's affair: the mode that means "not by the platform".
UPDATE_MODE = "SelfUpdate"


class Errors(msgspec.Struct, frozen=True):
    """How many requests failed, since this process began."""

    host_plugin: int = 0
    protocol: int = 0
    other: int = 0
    goal_state: int = 0


class Watched(msgspec.Struct, frozen=True):
    """What is told of. `restarts` by kind; `provisioned`: whether provisioning went well, None as long as it has not
    ended, and what there is to say of it."""

    restarts: Callable[[], Mapping[str, int]]
    errors: Callable[[], Errors]
    provisioned: Callable[[], tuple[bool | None, str]]


class AgentEvents:
    """Notes the agent's own events."""

    def __init__(
        self, loop: Loop, telemetry: Telemetry, transitions: Transitions, meters: Meters, watched: Watched
    ) -> None:
        self._loop = loop
        self._telemetry = telemetry
        self._transitions = transitions
        self._meters = meters
        self._watched = watched
        self._ticks = 0
        self._life = os.urandom(16).hex()
        self._restarts: dict[str, int] = {}
        self._errors = Errors()
        self._goal_state = ""

    async def run(self) -> None:
        """For ever; nothing at all while telemetry is switched off."""
        if not self._telemetry.is_on:
            return
        self._telemetry.did("Start", True, OWN_NAME)
        self._tell_heartbeat()
        while True:
            self._tell_provisioning()
            await self._loop.sleep(TICK_S)
            self.tick()

    def tick(self) -> None:
        """What is told every five minutes, and now and then more."""
        self._ticks += 1
        self._tell_usage()
        self._tell_restarts()
        if self._ticks % HEARTBEAT_TICKS == 0:
            self._tell_heartbeat()
            self._tell_errors()
        if self._ticks % MEMORY_TICKS == 0:
            self._tell_memory()

    def adopted(self, adopted: Adopted) -> None:
        """A goal state came into force, or its processing has ended."""
        outcome = adopted.outcome
        told = f"{adopted.id} {'' if outcome is None else outcome.code}"
        if not self._telemetry.is_on or outcome is None or told == self._goal_state:
            return
        self._goal_state = told
        self._telemetry.did("GoalState", outcome.code == OK, f"{adopted.id} ({adopted.source}): {outcome.message}")

    def went(self, operation: str, succeeded: bool, message: str) -> None:
        """An operation that is repeated for ever went well, or not: an event only where that has changed."""
        if not self._telemetry.is_on:
            return
        try:
            if not self._transitions.is_new(operation, succeeded=succeeded):
                return
        except StateError:
            # The event may come once more in another life; it is not lost for that.
            pass
        self._telemetry.did(operation, succeeded, message)

    def _tell_provisioning(self) -> None:
        succeeded, message = self._watched.provisioned()
        if succeeded is not None:
            self.went("Provision", succeeded, message)

    def _tell_heartbeat(self) -> None:
        number = self._ticks // HEARTBEAT_TICKS
        failed = self._watched.errors().goal_state
        self._telemetry.did("HeartBeat", True, f"{number};{self._life};{failed};0;{UPDATE_MODE}")

    def _tell_usage(self) -> None:
        usage = self._meters.read()
        if usage.processor_percent is not None:
            self._telemetry.count("CPU", "% Processor Time", OWN_GROUP, usage.processor_percent)
        if usage.memory_bytes is not None:
            self._telemetry.count("Memory", "Total Memory Usage", OWN_GROUP, float(usage.memory_bytes))

    def _tell_restarts(self) -> None:
        restarts = self._watched.restarts()
        for kind, total in restarts.items():
            more = total - self._restarts.get(kind, 0)
            if more > 0:
                self._telemetry.did("WorkerRestart", False, f"{kind}: replaced {more} times in {TICK_S / 60:g} min")
        self._restarts = dict(restarts)

    def _tell_errors(self) -> None:
        errors, before = self._watched.errors(), self._errors
        self._errors = errors
        fresh = {name: getattr(errors, name) - getattr(before, name) for name in ("host_plugin", "protocol", "other")}
        if any(fresh.values()):
            told = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in fresh.items())
            self._telemetry.did("HttpErrors", True, told)

    def _tell_memory(self) -> None:
        text = machine.memory_text()
        total, available = machine.memory_mib(text, "MemTotal"), machine.memory_mib(text, "MemAvailable")
        self._telemetry.count("Memory", "Used Memory", "", float(total - available))
        self._telemetry.count("Memory", "Available Memory", "", float(available))
