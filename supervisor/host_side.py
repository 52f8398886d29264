# SPDX-License-Identifier: Apache-2.0
"""Owns the composition of all that goes on between the host and this agent once provisioning is over.

Runs in the supervisor. It is imported before that closes its files, and with it all that it composes: nothing here may
import a module later, or open a file outside of the supervisor's folders.
"""

import os
import random
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from ipc.messages import ParsePluginVersions, PluginVersions
from supervisor import options
from supervisor.artifacts import Artifacts
from supervisor.certificates import Certificates
from supervisor.certificates_shown import shown
from supervisor.contact import Contact, NoRoleInstance
from supervisor.extensions.shown import Shown as ShownExtensions
from supervisor.extensions.shown import ShownExtension, as_told
from supervisor.goal_state.carrying_out import RUNS_NONE
from supervisor.goal_state.documents import Documents
from supervisor.goal_state.goal_states import Around, GoalStates
from supervisor.goal_state.on_hold import OnHold
from supervisor.goal_state.vm_settings import VmSettingsPoll
from supervisor.jit_accounts import JitAccounts
from supervisor.parts import Parts
from supervisor.redaction import cleaned
from supervisor.status import HostContact
from supervisor.storage import Storage, StorageRules
from supervisor.telling import Telling
from supervisor.wire.metadata import Metadata
from supervisor.wire.plugin import HostPlugin
from supervisor.wire.plugin_requests import API_VERSION, PluginIds
from supervisor.wire.proxy import settings as proxy_settings

if TYPE_CHECKING:
    from supervisor.extensions.extensions import Extensions

# It starts handlers' commands.
SYSTEMD = "/run/systemd/system"


class HostSide:
    """One of everything. A part plugs in by three lines:

    its import above, at the top of this file, never within a function; its making in `__init__`, from `parts` and from
    the parts made before it; its beginning in `run`, as a task of its own (`loop.start(name, work, detached=True)`)
    that ends with the process, catches AgentError, says so, and goes on."""

    def __init__(self, parts: Parts) -> None:
        """`parts` as provisioning has had them. The client to the host is `parts.contact.host`."""
        self._clean = parts.clean
        self._logs = parts.config[options.EXTENSION_LOG_DIR]
        loop, contact, config = parts.loop, parts.contact, parts.config
        about = _About(contact)
        host = contact.host
        self.plugin = HostPlugin(loop, host, ids=about.ids, refresh=contact.refresh, speaks=about.speaks)
        proxies = proxy_settings(config[options.HTTP_PROXY_HOST], config[options.HTTP_PROXY_PORT], os.environ)
        for problem in proxies.problems:
            parts.say("warning", "storage", problem)
        rules = StorageRules(host.address, proxies, plain=config[options.ALLOW_HTTP])
        self.storage = Storage(parts.fleet, rules, lambda: host.sealing.time.now)
        self.artifacts = Artifacts(loop, self.storage, self.plugin, random.random)  # noqa: S311 - spreads load, guards nothing
        self.certificates = Certificates(parts, self._named_thumbprints)
        self.jit_accounts = JitAccounts(parts, self.certificates, lambda: host.sealing.time.told)
        self.extensions = self._extensions(parts) if os.path.isdir(SYSTEMD) else None
        fast_track = config[options.DEBUG_FAST_TRACK]
        self.settings = VmSettingsPoll(self.plugin, contact.parse_with, loop.clock, parts.say) if fast_track else None
        around = Around(
            Documents(
                loop,
                contact,
                self.certificates,
                lambda: parts.credentials.certificate,
                lambda number: parts.fleet.prepared.begin("parser", number),
            ),
            self.settings,
            lambda: self.certificates.known,
            OnHold(self.artifacts, contact, parts.say).ask,
            self.jit_accounts.take,
            self.extensions,
        )
        self.goal_states = GoalStates(parts, around)
        if self.extensions is not None:
            self.extensions.on_change = self.goal_states.note_handlers
            self.extensions.on_end = self.goal_states.note_end
            self.goal_states.on_poll = self.extensions.look
        self._is_provisioned = parts.table.phase == "steady"
        self.telling = Telling(parts, self.plugin, self.storage, Metadata(host), self.goal_states)
        if self.extensions is not None:
            self.extensions.events.telemetry = self.telling.telemetry
        if self.settings is not None:
            self.settings.on_hour = self.telling.note_settings_hour

    @property
    def trouble(self) -> str:
        """Why the last poll brought nothing; empty when it did."""
        return self.goal_states.trouble

    @property
    def contact(self) -> HostContact:
        """What passes between the host and this agent, for `ps`."""
        goal_states = self.goal_states
        current = goal_states.current
        outcome = current.outcome if current is not None else None
        settings_failed, settings_trouble = self.settings.trouble if self.settings is not None else (0, "")
        contact = HostContact(
            goal_state=current.id if current is not None else "",
            source=current.told_source if current is not None else "",
            adopted=current.adopted_s if current is not None else 0.0,
            outcome=outcome.message if outcome is not None else "",
            polls_failed=goal_states.errors_in_a_row,
            trouble=goal_states.trouble,
            status_accepted=self.telling.status.last_accepted_at or 0.0,
            channel=self.telling.status.channel,
            uploads_failed=self.telling.status.errors_in_a_row,
            status_trouble=self.telling.status.trouble,
            settings_failed=settings_failed,
            settings_trouble=settings_trouble,
            certificate_problems=len(self.certificates.problems),
            waits=goal_states.waits,
            telemetry=self.telling.telemetry.shown(),
        )
        return msgspec.convert(self._told(contact), HostContact)

    def goal_state(self) -> dict[str, object]:
        """All that `agent-supervisor goal-state` shows, as plain data."""
        return self._told(msgspec.structs.replace(self.goal_states.shown(), accounts=self.jit_accounts.shown()))

    def _extensions(self, parts: Parts) -> "Extensions":
        """What carries them out: some twenty modules, which no machine without systemd is to load."""
        compose = import_module("supervisor.extensions.composition").compose
        made: Extensions = compose(parts, self.artifacts, self.certificates, self._keep)
        return made

    def _keep(self, name: str, content: bytes) -> None:
        self.goal_states.keeping.keep_more(name, content)

    def extensions_shown(self) -> dict[str, object]:
        """All that `agent-supervisor extensions` shows, as plain data."""
        trouble = f"extensions are reported, and none is run: {RUNS_NONE}" if self.extensions is None else ""
        leftovers = self.extensions.leftovers() if self.extensions is not None else ()
        return self._told(ShownExtensions(self.handlers_shown(), trouble, self._logs, leftovers))

    def handlers_shown(self) -> tuple[ShownExtension, ...]:
        """What is known of each handler of the goal state in force."""
        current = self.goal_states.current
        if self.extensions is not None and current is not None and not current.is_outdated:
            return self.extensions.shown()
        return as_told(current) if current is not None else ()

    def certificates_shown(self) -> dict[str, object]:
        """All that `agent-supervisor certificates` shows, as plain data."""
        current, certificates = self.goal_states.current, self.certificates
        plugins = current.goal_state.plugins if current is not None else ()
        return self._told(shown(certificates.known, certificates.problems, plugins, fips=certificates.is_fips))

    async def run(self) -> None:
        """For ever. A VM whose provisioning has failed tells nothing but that, and asks for nothing but goal states."""
        if self._is_provisioned:
            if self.settings is not None:
                self.settings.on_hour = lambda errors: self.telling.telemetry.did(
                    "VmSettingsSummary", False, errors.told
                )
            self.telling.begin()
            self.jit_accounts.begin()
        await self.goal_states.run()

    def close(self) -> None:
        """Give up what waits for the host, other than by `parts.contact`."""
        self.telling.end()
        self.plugin.close()

    def _told(self, shape: msgspec.Struct) -> dict[str, object]:
        """As plain data, for whoever may ask: workers' sentences are in it, which may quote what they must not."""
        data: dict[str, object] = cleaned(msgspec.to_builtins(shape), self._clean)
        return data

    def _named_thumbprints(self) -> tuple[str, ...]:
        """The certificates that the goal state in force is for."""
        current = self.goal_states.current
        plugins = current.goal_state.plugins if current is not None else ()
        return tuple(each.thumbprint for plugin in plugins for each in plugin.settings if each.thumbprint)


class _About:
    """What the host plugin has to know."""

    def __init__(self, contact: Contact) -> None:
        self._contact = contact

    def ids(self) -> PluginIds:
        """Whom the newest goal state names."""
        goal_state = self._contact.goal_state
        if goal_state is None or goal_state.role_instance is None:
            raise NoRoleInstance("the goal state names no role instance yet")
        return PluginIds(goal_state.container_id, goal_state.role_instance.config_name)

    async def speaks(self, document: bytes) -> bool:
        """Whether the version that we know is among those of the document."""
        told = await self._contact.parse(ParsePluginVersions(), "plugin-versions", document, PluginVersions)
        return API_VERSION in told.versions
