# SPDX-License-Identifier: Apache-2.0
"""Owns the carrying out of what a medium asks for: planned by a worker, judged whole, then committed step by step.

Runs in the supervisor. It never acts on what the worker proposes before `validate` has compared it with facts.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from ipc.descriptors import close_all
from ipc.errors import CommitError, StateError
from ipc.messages import (
    AccountFacts,
    CommitAccount,
    CommitHostName,
    CommitKeyPair,
    CommitKeys,
    CommitPassword,
    CommitPaths,
    CommitRootLock,
    CommitSshd,
    CommitSudo,
    ConfigureSshd,
    CreateAccount,
    GrantSudo,
    LockRootPassword,
    Message,
    PlaceKeyPair,
    PlaceKeys,
    PlanProvisioning,
    ProvisioningOptions,
    SetHostName,
    SetPassword,
    StoreCustomData,
)
from supervisor import facts, options, planning, validate
from supervisor.audit_log_entry import Decision, Entry, summary
from supervisor.config import Config
from supervisor.custom_data import CustomData
from supervisor.files import write_whole
from supervisor.fleet import Fleet
from supervisor.journal import Journal
from supervisor.medium import Medium
from supervisor.records import SaltDrawn
from supervisor.steps import Steps

if TYPE_CHECKING:
    from supervisor.ovf_certificates import OvfCertificates

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
    CommitKeyPair: ("SSH key pair", "home-keys"),
    CommitRootLock: ("root password", "root-lock"),
}
# What a proposal will become: enough to have its committer ready. What the order says is found out in its turn.
ORDERS: dict[type[Message], type[Message]] = {
    SetHostName: CommitHostName,
    CreateAccount: CommitAccount,
    SetPassword: CommitPassword,
    GrantSudo: CommitSudo,
    ConfigureSshd: CommitSshd,
    PlaceKeys: CommitKeys,
    PlaceKeyPair: CommitKeyPair,
    LockRootPassword: CommitRootLock,
}
# A plan begins with it.
FIRST = "hostname"
# How many committers wait for their turn: one more would take the processor from those whose turn it is.
AHEAD = 1


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
        self._certificates: OvfCertificates | None = None

    async def plan(self, medium: Medium, certificates: "OvfCertificates | None" = None) -> planning.Plan:
        """The plan, judged as a whole; nothing is changed yet. `certificates` are there if the OVF names any."""
        self._certificates = certificates
        if not self._journal.state.salt:
            self._journal.append(SaltDrawn(draw_salt(os.urandom)))
        settings = _options(self._config, self._journal.state.salt)
        known = () if certificates is None else certificates.keys
        request = PlanProvisioning(medium.ovf, settings, self._account(medium), known)
        prepare = partial(self._fleet.prepared.begin, FIRST)
        return await planning.plan(self._fleet, request, medium.custom_data, self._steps.audit, prepare)

    async def carry_out(self, plan: planning.Plan, medium: Medium, tell: Callable[[str], None], then: str) -> None:
        """Commit every proposal in its turn; `tell` gets what takes long, for `ps`.

        `then` is the kind of worker that is needed after the last one."""
        for number, proposal in enumerate(plan.proposals):
            if isinstance(proposal, StoreCustomData) and plan.custom_data is not None:
                self._note(proposal, "intended", summary(proposal))
                await self._custom_data.handle(plan.custom_data, tell)
                self._note(proposal, "done", summary(proposal))
            else:
                await self._commit(proposal, medium, partial(self._prepare, plan.proposals[number:], then))
        write_whole(f"{self._lib}/{OVF_COPY}", medium.redacted, PRIVATE)

    async def _commit(self, proposal: Message, medium: Medium, at_work: Callable[[], None]) -> None:
        # The account's facts are read anew each time: the step before may have made it.
        try:
            order = validate.commit_for(proposal, self._paths, self._account(medium))
        except CommitError as refusal:
            self._note(proposal, "refused", str(refusal))
            raise
        if order is not None:
            step, kind = _step(type(order), proposal)
            given = self._private_key(proposal)
            try:
                await self._steps.take(step, kind, order, at_work, descriptors=given)
            finally:
                close_all(given)

    def _private_key(self, proposal: Message) -> tuple[int, ...]:
        """What no message says: the private half of a key pair."""
        if not isinstance(proposal, PlaceKeyPair) or self._certificates is None:
            return ()
        return (self._certificates.private_key(proposal.thumbprint),)

    def _prepare(self, left: Sequence[Message], then: str) -> None:
        """While the first of `left` is carried out, start the committers of the next ones; at the last one, `then`."""
        # What `home-keys` may write is settled as it starts; the account's step may be what makes the folder of homes.
        unfit = [PlaceKeys, PlaceKeyPair] if isinstance(left[0], CreateAccount) else []
        coming = [each for each in left[1:] if type(each) in ORDERS and type(each) not in unfit]
        for proposal in coming[:AHEAD]:
            step, kind = _step(ORDERS[type(proposal)], proposal)
            if step not in self._journal.state.steps:
                self._fleet.prepared.begin(kind)
        if len(coming) < AHEAD:
            self._fleet.prepared.begin(then)

    def _note(self, proposal: Message, decision: Decision, detail: str) -> None:
        """In the audit log, what no step of a committer tells."""
        self._steps.audit(Entry("commit", request=type(proposal).__name__, decision=decision, detail=detail))

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


def _step(order: type[Message], proposal: Message) -> tuple[str, str]:
    """The name of the step, and who carries it out."""
    step, kind = STEPS[order]
    return (f"{step} {proposal.path}" if isinstance(proposal, PlaceKeys | PlaceKeyPair) else step), kind


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
