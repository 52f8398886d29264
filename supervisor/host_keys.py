# SPDX-License-Identifier: Apache-2.0
"""Owns the SSH host keys of a provisioning (provisioning.md 7): made apart, put in place at the end, then sshd is told.

Runs in the supervisor. The image's keys stay in force until everything else has succeeded.
"""

from collections.abc import Callable

from ipc.errors import AgentError
from ipc.messages import CommitSshdReload, HostKey, InstallHostKeys, MakeHostKeys, ReadHostKeys
from supervisor import facts, options
from supervisor.config import Config
from supervisor.journal import Journal
from supervisor.loop import Promise
from supervisor.records import HostKeysInstalled, HostKeysStaged
from supervisor.steps import Steps

# The journal's name for the step; that it was begun for this VM is how our own staging folder is known.
MADE = "SSH host keys"
KIND = "host-keys"


class HostKeys:
    """Keys in `ssh_dir`; new ones are made in a folder beside them, so that a rename puts them in place."""

    def __init__(
        self, steps: Steps, journal: Journal, config: Config, ssh_dir: str, say: Callable[[str, str, str], None]
    ) -> None:
        """`say` is for the log."""
        self._steps = steps
        self._say = say
        self._journal = journal
        self._config = config
        self._ssh_dir = ssh_dir
        self._staging = f"{ssh_dir}/.agent-supervisor-host-keys"
        self._installed: tuple[HostKey, ...] = ()
        # Fulfilled once they are being made, or won't be: whoever wants them soon keeps the processors free until then.
        self.under_way: Promise[None] = Promise()

    @property
    def are_due(self) -> bool:
        """Whether new ones are to be made: not if the settings keep the image's, or an earlier start made them."""
        state = self._journal.state
        return bool(self._config[options.REGENERATE_HOST_KEYS]) and not (state.fingerprint or state.staged)

    async def make(self) -> None:
        """New keys of the configured type, if they are due."""
        if self.are_due:
            state = self._journal.state
            order = MakeHostKeys(self._config[options.HOST_KEY_TYPE], self._staging, MADE not in state.steps)
            try:
                await self._steps.take(MADE, KIND, order, lambda: self.under_way.fulfil(None))
                self._journal.append(HostKeysStaged(self._staging))
            finally:
                self.under_way.fulfil(None)
        self.under_way.fulfil(None)

    async def install(self) -> None:
        """The new keys in the place of the old; then a running sshd reads them and its settings."""
        if self._journal.state.staged:
            order = InstallHostKeys(self._staging, self._ssh_dir)
            committed = await self._steps.take("SSH host keys in place", KIND, order)
            self._installed = committed.host_keys if committed is not None else await self.current()
            prints = ", ".join(f"{key.algorithm} SHA256:{key.sha256}" for key in self._installed)
            self._journal.append(HostKeysInstalled(prints or "unknown"))
        # At a first boot sshd waits for us: then there is nobody to tell.
        if facts.sshd_runs():
            await self._steps.take("sshd", "sshd-reload", CommitSshdReload())

    async def current(self) -> tuple[HostKey, ...]:
        """The public halves of the keys in place; none when they can't be read, and the log says why."""
        if not self._installed:
            try:
                answer = await self._steps.ask(KIND, ReadHostKeys(self._ssh_dir))
                self._installed, problem = answer.host_keys, answer.fact
            except AgentError as error:
                problem = str(error)
            if problem:
                self._say("warning", "provisioning", f"not every SSH host key can be read: {problem}")
        return self._installed
