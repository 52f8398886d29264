# SPDX-License-Identifier: Apache-2.0
"""Owns the composition of all that extensions are carried out by.

Runs in the supervisor, where systemd runs: nothing of this is loaded elsewhere. It is made before that process closes
its files.
"""

import os
from collections.abc import Callable

from ipc.errors import AgentError
from ipc.messages import HandlerManifest
from supervisor import options, vm_identity
from supervisor.artifacts import Artifacts
from supervisor.certificates import Certificates
from supervisor.extension_records import Run
from supervisor.extensions import naming, trust
from supervisor.extensions.commands import Commands, Keys
from supervisor.extensions.extensions import Extensions, Members
from supervisor.extensions.files import HandlerFiles
from supervisor.extensions.gates import Gates
from supervisor.extensions.installed import Installed
from supervisor.extensions.manifests import Manifests
from supervisor.extensions.ordered import Ordered, Ordering
from supervisor.extensions.packages import Packages
from supervisor.extensions.procedure import Tools
from supervisor.extensions.reports import Facts, Reports
from supervisor.extensions.status_files import StatusFiles
from supervisor.extensions.waagent_policy import WaagentPolicy
from supervisor.parts import Parts
from supervisor.telemetry.handler_events import HandlerEvents

FORGOTTEN_S, MOST_PAUSE_S = 2.0, 300.0


def compose(
    parts: Parts, artifacts: Artifacts, certificates: Certificates, keep: Callable[[str, bytes], None]
) -> Extensions:
    """All of it; `keep` takes a file for the history of goal states."""
    return _Composition(parts, artifacts, certificates, keep).extensions


class _Composition:
    def __init__(
        self, parts: Parts, artifacts: Artifacts, certificates: Certificates, keep: Callable[[str, bytes], None]
    ) -> None:
        self._ = parts
        # Numbers of commands that are over.
        self._over: list[int] = []
        self._events = HandlerEvents(parts.loop.clock)
        loop, layout, config = parts.loop, parts.layout, parts.config
        logs = config[options.EXTENSION_LOG_DIR]
        keys = Keys(certificates.private_key, certificates.certificate)
        self._commands = Commands(loop, parts.fleet, layout, keys, logs)
        self._files = HandlerFiles(layout.lib, logs, self._warn)
        self._packages = Packages(parts, artifacts, trust.read())
        policy = WaagentPolicy(parts, keep)
        self._gates = Gates(parts.rules, lambda: policy.now, extensions_enabled=config[options.EXTENSIONS_ENABLED])
        self._status_files = StatusFiles(loop, parts.fleet, layout.lib)
        self._manifests: dict[str, HandlerManifest] = {}
        self._reports = self._make_reports()
        members = Members(
            loop,
            parts.journal,
            self._gates,
            policy,
            self._make_tools(artifacts, certificates),
            self._files,
            Installed(parts.journal, self._files, self._packages, self._gates.rule, parts.say),
            self._status_files,
            parts.say,
            float(config[options.GOAL_STATE_PERIOD]),
        )
        self.extensions = Extensions(members, self._reports)
        loop.start("orders", self._forget_left(f"{layout.run}/handlers"), detached=True)

    def _make_reports(self) -> Reports:
        facts = Facts(
            self._.loop,
            lambda: self._.journal.state.extensions,
            self._manifest,
            lambda handler, version: self._gates.rule(handler, version, "enable"),
            self._commands,
            self._files,
            self._status_files,
            self._.say,
        )
        return Reports(facts)

    def _make_tools(self, artifacts: Artifacts, certificates: Certificates) -> Tools:
        parts, boot = self._, vm_identity.boot_id()
        ordering = Ordering(
            parts.journal,
            self._commands,
            self._files,
            self._gates.rule,
            lambda thumbprint: thumbprint in certificates.known,
            parts.clean,
            parts.audit,
            parts.contact.host.address,
            boot,
            self._command_ended,
            parts.loop.clock,
        )
        manifests = Manifests(artifacts, parts.contact, parts.fleet, parts.layout.lib, self._packages)
        ordered, prepare = Ordered(ordering), parts.fleet.prepared.begin
        return Tools(
            parts.journal,
            self._files,
            self._packages,
            manifests,
            ordered,
            parts.audit,
            boot,
            prepare,
            self._warn,
            self._events,
        )

    def _warn(self, text: str) -> None:
        self._.say("warning", "extensions", text)

    def _manifest(self, handler: str, version: str) -> HandlerManifest | None:
        """As far as it was needed already, by this process or an earlier one."""
        folder = naming.folder_name(handler, version)
        known = self.extensions.manifest(handler, version) or self._manifests.get(folder)
        if known is None and (known := self._packages.manifest_of(folder)) is not None:
            self._manifests[folder] = known
        return known

    def _command_ended(self, handler: str, run: Run, seconds: float) -> None:
        self._events.command(handler, run, seconds)
        self._forget_later(run.number)

    def _forget_later(self, number: int) -> None:
        self._over.append(number)
        if len(self._over) == 1:
            self._.loop.start("orders", self._forget_all(), detached=True)

    async def _forget_all(self) -> None:
        """One after the other, and not at the moment at which the next command is waited for."""
        pause_s = FORGOTTEN_S
        while self._over:
            await self._.loop.sleep(pause_s)
            is_done = await self._forget(self._over[0])
            pause_s = FORGOTTEN_S if is_done else min(2 * pause_s, MOST_PAUSE_S)
            number = self._over.pop(0)
            if not is_done:
                self._over.append(number)

    async def _forget(self, number: int) -> bool:
        """Whether it is: what was ordered lies about, with its keys, no longer than it must."""
        try:
            await self._commands.forget(number)
        except AgentError as error:
            self._.say("verbose", "extensions", f"command {number} is not forgotten yet: {error}")
            return False
        return True

    async def _forget_left(self, folder: str) -> None:
        """Of an earlier process of ours, but what is to be waited for still."""
        handlers = self._.journal.state.extensions.handlers.values()
        waited_for = {
            run.number for life in handlers if life.undertaking for run in life.undertaking.runs if not run.ended
        }
        try:
            names = os.listdir(folder)
        except OSError:
            return
        for name in names:
            if name.isdecimal() and int(name) not in waited_for and not await self._forget(int(name)):
                self._forget_later(int(name))
