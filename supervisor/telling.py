# SPDX-License-Identifier: Apache-2.0
"""Owns the composition of all that this VM tells the host: status, observations, telemetry.

Runs in the supervisor. What it composes is imported with it, and opens its files, while those can still be opened.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from supervisor import options
from supervisor.loop import Promise, TimedOut
from supervisor.reporting import features, machine
from supervisor.reporting.aggregate import Facts, Update
from supervisor.reporting.health_service import HealthService, Signal
from supervisor.reporting.minute import InstanceFacts, MetadataService, Minute
from supervisor.reporting.status_reports import StatusReports, Storage, Surroundings
from supervisor.telemetry.agent_events import AgentEvents, Errors, Watched
from supervisor.telemetry.envelope import Common
from supervisor.telemetry.extension_events import Collector
from supervisor.telemetry.legacy_events import LegacyEvents
from supervisor.telemetry.meters import own_meters
from supervisor.telemetry.telemetry import Wiring, switched_off, switched_on
from supervisor.telemetry.transitions import Transitions

if TYPE_CHECKING:
    from supervisor.goal_state.goal_states import GoalStates
    from supervisor.parts import Parts
    from supervisor.wire.plugin import HostPlugin

SIGNALS: dict[str, Signal] = {
    "health": "GuestAgentPluginHeartbeat",
    "status": "GuestAgentPluginStatus",
    "versions": "GuestAgentPluginVersions",
    "artifact": "GuestAgentPluginArtifact",
}
# So long an event waits for the names that it is to be filed under: goal state and instance metadata have them.
FOR_NAMES_S = 30.0
# The one folder of logs in the supervisor's own mount tree.
LOGS = "/var/log/"
# What provisioning has come to, by what `status` calls it.
OVER = {"done": True, "error": False}


class Telling:
    """One of everything, at work from `begin` on."""

    def __init__(
        self,
        parts: "Parts",
        plugin: "HostPlugin",
        storage: Storage,
        metadata: MetadataService,
        goal_states: "GoalStates",
    ) -> None:
        self._parts = parts
        self._plugin = plugin
        self._goal_states = goal_states
        self._plugin_errors = self._goal_state_errors = 0
        self._machine = machine.look()
        # The goal state says whose this VM is.
        self._named: Promise[None] = Promise()
        loop, host = parts.loop, parts.contact.host
        self.health = HealthService(loop, host.post_observations, parts.clean)
        self.instance = InstanceFacts(parts.contact.parse, metadata)
        self._minute = Minute(loop, plugin, self.instance, self.health)
        wiring = Wiring(loop, host.post_telemetry, self._common, parts.clean, parts.say)
        switched = switched_on if parts.config[options.TELEMETRY_ENABLED] else switched_off
        self.telemetry = switched(parts.layout.telemetry, wiring)
        watched = Watched(self._restarts, self._errors, self._provisioned)
        transitions = Transitions(parts.layout.transitions)
        self._events = AgentEvents(loop, self.telemetry, transitions, own_meters(loop.clock), watched)
        around = Surroundings(
            self._facts,
            goal_states.fetch_anew,
            goal_states.keeping.keep_status,
            parts.clean,
            parts.say,
            self._note_status,
        )
        retry_s = float(parts.config[options.GOAL_STATE_PERIOD])
        self.status = StatusReports(loop, plugin, storage, around, retry_s)
        logs = parts.config[options.EXTENSION_LOG_DIR]
        if not f"{logs}/".startswith(LOGS):
            told = f"{options.EXTENSION_LOG_DIR.name} is {logs}, not below {LOGS}: events of extensions are not read"
            parts.say("warning", "telemetry", told)
        self._collector = Collector(loop, parts.contact.parse, self.telemetry, logs, parts.say)
        events = f"{parts.layout.lib}/events"
        self._legacy = LegacyEvents(loop, parts.contact.parse, self.telemetry, events, parts.say)

    def begin(self) -> None:
        """Tell, for ever."""
        loop = self._parts.loop
        self._plugin.on_outcome = self._note_plugin
        self._goal_states.on_change = self._note_goal_state
        self._goal_states.on_trouble = self._note_trouble
        period_s = float(self._parts.config[options.DEBUG_ETP_PERIOD])
        loop.start("telemetry", self._send(), detached=True)
        loop.start("status", self.status.run(), detached=True)
        loop.start("minute", self._minute.run(), detached=True)
        loop.start("agent events", self._events.run(), detached=True)
        loop.start("extension events", self._collector.run(period_s), detached=True)
        loop.start("legacy events", self._legacy.run(period_s), detached=True)

    def end(self) -> None:
        """What is still in memory goes to disk: the next start sends it."""
        self.telemetry.flush()

    async def _send(self) -> None:
        """Events are sent once it is known whose they are, or it has taken too long."""
        with suppress(TimedOut):
            await self._parts.loop.within(self._named, FOR_NAMES_S)
            await self._parts.loop.within(self._minute.begun, FOR_NAMES_S)
        await self.telemetry.send()

    def _note_goal_state(self) -> None:
        adopted = self._goal_states.current
        if adopted is not None:
            self._named.fulfil(None)
            self._events.adopted(adopted)
        self.status.changed()

    def _note_trouble(self, text: str) -> None:
        self._goal_state_errors += 1
        self.telemetry.did("FetchGoalState", False, text)

    def note_settings_hour(self, errors: object) -> None:
        """VmSettings could not be had now and then within the last hour."""
        told = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in msgspec.to_builtins(errors).items())
        self.telemetry.did("VmSettingsSummary", False, told)

    def _note_status(self, succeeded: bool, text: str) -> None:
        self._events.went("ReportStatus", succeeded, text)

    def _note_plugin(self, what: str, healthy: bool) -> None:
        self._plugin_errors += not healthy
        if what in SIGNALS:
            problem = "" if healthy else self._plugin.status().last_error or "no answer"
            self.health.heard(SIGNALS[what], problem)

    def _facts(self) -> Facts:
        goal_states = self._goal_states
        return Facts(self._machine, machine.host_name(), goal_states.current, goal_states.features, self._update())

    def _update(self) -> Update | None:
        """What becomes of the host's wish for a version of the agent; None where it has none (wire-protocol.md 13)."""
        adopted = self._goal_states.current
        if adopted is None or not self._parts.config[options.DEBUG_GA_VERSIONING]:
            return None
        wanted = self._parts.config[options.GA_FAMILY]
        family = next((each for each in adopted.goal_state.families if each.name == wanted), None)
        return features.update(family)

    def _common(self) -> Common:
        goal_state, environment = self._parts.contact.goal_state, self._goal_states.environment
        role = goal_state.role_instance if goal_state is not None else None
        instance = self.instance.facts
        return Common(
            container_id=goal_state.container_id if goal_state is not None else "",
            os_version=self._machine.os_version,
            memory_mib=self._machine.memory_mib,
            processors=self._machine.processors,
            processor=self._machine.processor,
            tenant=environment.deployment_name if environment is not None else "",
            role=environment.role_name if environment is not None else "",
            role_instance=role.instance_id if role is not None else "",
            location=instance.location if instance is not None else "",
            subscription_id=instance.subscription_id if instance is not None else "",
            resource_group=instance.resource_group if instance is not None else "",
            vm_id=instance.vm_id if instance is not None else "",
            image_origin=instance.image_origin if instance is not None else 0,
        )

    def _restarts(self) -> dict[str, int]:
        return {kind: each.total for kind, each in self._parts.fleet.restarts.items()}

    def _errors(self) -> Errors:
        return Errors(self._plugin_errors, self._goal_state_errors, self.status.errors, self._goal_state_errors)

    def _provisioned(self) -> tuple[bool | None, str]:
        standing = self._parts.standing.status()
        return OVER.get(standing.status), standing.error or standing.detail
