# SPDX-License-Identifier: Apache-2.0
"""Owns the carrying out of what a medium asks for: planned by a worker, judged whole, then committed step by step.

Runs in the supervisor. It never acts on what the worker proposes before `validate` has compared it with facts.
"""

import os
from collections.abc import Callable
from itertools import islice

from ipc.errors import StateError
from ipc.messages import (
    AccountFacts,
    CommitAccount,
    CommitHostName,
    CommitKeys,
    CommitPassword,
    CommitPaths,
    CommitRootLock,
    CommitSshd,
    CommitSudo,
    Message,
    PlanProvisioning,
    ProvisioningOptions,
    StoreCustomData,
)
from supervisor import facts, options, planning, validate
from supervisor.config import Config
from supervisor.custom_data import CustomData
from supervisor.files import write_whole
from supervisor.fleet import Fleet
from supervisor.journal import Journal
from supervisor.medium import Medium
from supervisor.records import SaltDrawn
from supervisor.steps import Steps

OVF_COPY = "ovf-env.xml"
ALPHANUMERIC = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
SALT_CHARACTERS = 64
PRIVATE = 0o600
# What each committer's order is called in the log and the journal, and who carries it out.
STEPS: dict[type[Message], tuple[str, str]] = {
    CommitHostName: ("host name", "hostname"),
    CommitAccount: ("account", "account"),
    CommitPassword: ("password", "password"),
    CommitSudo: ("sudo", "sudoers"),
    CommitSshd: ("sshd settings", "sshd"),
    CommitKeys: ("SSH keys", "home-keys"),
    CommitRootLock: ("root password", "root-lock"),
}


class Fulfilment:
    """Does what one medium asks for; `lib` is the folder that outsiders know."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it works with, each given once, in one place
        self, fleet: Fleet, config: Config, steps: Steps, journal: Journal, custom_data: CustomData, lib: str
    ) -> None:
        self._fleet = fleet
        self._config = config
        self._steps = steps
        self._journal = journal
        self._custom_data = custom_data
        self._lib = lib
        self._paths = commit_paths(config)

    async def plan(self, medium: Medium) -> planning.Plan:
        """The plan, judged as a whole; nothing is changed yet."""
        if not self._journal.state.salt:
            self._journal.append(SaltDrawn(draw_salt(os.urandom)))
        settings = _options(self._config, self._journal.state.salt)
        request = PlanProvisioning(medium.ovf, settings, self._account(medium))
        return await planning.plan(self._fleet, request, medium.custom_data)

    async def carry_out(self, plan: planning.Plan, medium: Medium, tell: Callable[[str], None]) -> None:
        """Commit every proposal in its turn; `tell` gets what takes long, for `ps`."""
        for proposal in plan.proposals:
            if isinstance(proposal, StoreCustomData) and plan.custom_data is not None:
                await self._custom_data.handle(plan.custom_data, tell)
                continue
            # The account's facts are read anew each time: the step before may have made it.
            order = validate.commit_for(proposal, self._paths, self._account(medium))
            if order is not None:
                step, kind = STEPS[type(order)]
                path = f" {order.path}" if isinstance(order, CommitKeys) else ""
                await self._steps.take(f"{step}{path}", kind, order)
        write_whole(f"{self._lib}/{OVF_COPY}", medium.redacted, PRIVATE)

    def home(self, medium: Medium) -> str:
        """The home of the medium's account as it is now; StateError when the accounts can't be read."""
        return self._account(medium).home

    def _account(self, medium: Medium) -> AccountFacts:
        try:
            return facts.account_facts(medium.ovf.user_name, self._paths.home_dir)
        except OSError as error:
            raise StateError(
                f"the accounts of this machine can't be read: {facts.ACCOUNTS}: {error.strerror}"
            ) from None


def commit_paths(config: Config) -> CommitPaths:
    """Where this system keeps what committers edit."""
    return CommitPaths(
        config[options.SUDOERS_DIR],
        config[options.SSH_DIR],
        config[options.PASSWORD_PATH],
        config[options.HOME_DIR],
    )


def draw_salt(random_bytes: Callable[[int], bytes]) -> str:
    """64 alphanumeric characters, each as likely as any other; `random_bytes` is as os.urandom."""
    # Four times 62 is 248: the bytes above that would favour some characters.
    drawn = (ALPHANUMERIC[byte % 62] for byte in iter(lambda: random_bytes(1)[0], None) if byte < 248)
    return "".join(islice(drawn, SALT_CHARACTERS))


def _options(config: Config, salt: str) -> ProvisioningOptions:
    """The settings that the provisioning worker needs."""
    return ProvisioningOptions(
        config[options.PASSWORD_CRYPT_ID],
        config[options.PASSWORD_SALT_LENGTH],
        salt,
        config[options.ALLOW_RESET_SYS_USER],
        config[options.DELETE_ROOT_PASSWORD],
        config[options.DECODE_CUSTOM_DATA] or config[options.EXECUTE_CUSTOM_DATA],
        config[options.HOME_DIR],
        config[options.SSH_CLIENT_ALIVE_INTERVAL],
    )
