# SPDX-License-Identifier: Apache-2.0
"""Owns what workers do for one JIT account: hash its password, make it, move its end, remove it; each step audited.

Runs in the supervisor. The password goes from the vault's sealed memfd to the worker that hashes it, unread.
"""

import os
import time
from collections.abc import Coroutine
from typing import Any, Protocol

from ipc.errors import AgentError, CommitError, InputError
from ipc.messages import (
    CommitAccount,
    CommitFailed,
    CommitLabels,
    CommitPassword,
    CommitSudo,
    Committed,
    HashPassword,
    InputRefused,
    Message,
    MoveJitExpiry,
    PasswordHashed,
    RemoveJitAccount,
    WithdrawSudo,
)
from ipc.messages.jit import COMMENT, ORDINARY
from ipc.secret import Secret
from supervisor import facts, options
from supervisor.audit_log_entry import Entry, summary
from supervisor.fulfilment import commit_paths, draw_salt
from supervisor.labels import ACCOUNT_FILES, SWITCH, can_be_labelled
from supervisor.loop import Promise
from supervisor.parts import Parts
from supervisor.validate import HASHES, is_hash

A_DAY_S = 86_400
# The last day that a date of four digits can have.
LATEST_S = 253_402_128_000
KIND = "jit-account"


class Opens(Protocol):
    """Who opens a password's envelope: `supervisor.certificates.Certificates`."""

    def open_password(self, envelope: str) -> Coroutine[Promise[Any], None, int]: ...


class NotMade(CommitError):
    """The account is not made, and nothing was changed: there is nothing to take back."""


class NotOurs(CommitError):
    """The account of that name is an ordinary one: it is left alone."""


class JitOrders:
    """The steps; AgentError when one fails. It is made while the machine's own files can be read."""

    def __init__(self, parts: Parts, opens: Opens) -> None:
        self._ = parts
        self._opens = opens
        self._paths = commit_paths(parts.config)
        self._uid_min = facts.least_uid()
        self._has_labels = os.path.exists(SWITCH)

    async def hash(self, envelope: str) -> Secret:
        """The crypt(3) hash of what `envelope` holds, with a salt of its own."""
        config = self._.config
        crypt_id = config[options.PASSWORD_CRYPT_ID]
        salt = draw_salt(os.urandom)
        if crypt_id in HASHES:
            salt = salt[: config[options.PASSWORD_SALT_LENGTH]]
        password = await self._opens.open_password(envelope)
        try:
            request = HashPassword(crypt_id, salt)
            received = await self._.fleet.do("provisioning", request, (password,), final=(PasswordHashed,))
        finally:
            os.close(password)
        answer = received[-1][0]
        if isinstance(answer, InputRefused):
            raise InputError(answer.where, answer.problem)
        if not isinstance(answer, PasswordHashed) or not is_hash(answer.password_hash, crypt_id, salt):
            raise InputError("Password", "what came back is not a hash of the configured kind and salt")
        return answer.password_hash

    async def make(self, name: str, expires_s: int, password_hash: Secret) -> int:
        """The account, its password, sudo with that; its uid, 0 if that is not known.

        NotMade when nothing was done; else what was has to be removed."""
        day = time.strftime("%Y-%m-%d", time.gmtime(_day(expires_s) * A_DAY_S))
        home = f"{self._paths.home_dir.rstrip('/')}/{name}"
        try:
            made = await self._commit("account", CommitAccount(name, home, self._uid_min, COMMENT, day))
        except CommitError as error:
            raise error if error.changed else NotMade(error.problem) from None
        await self._commit("password", CommitPassword(name, password_hash))
        await self._commit("sudoers", CommitSudo(name, without_password=False, paths=self._paths))
        if self._has_labels:
            written = (*ACCOUNT_FILES, f"{self._paths.sudoers_dir}/waagent")
            homes = (home,) if can_be_labelled(home) else ()
            await self._commit("labels", CommitLabels(tuple(filter(can_be_labelled, written)), homes))
        return next((change.uid for change in made.changes if change.path == home), 0)

    async def move(self, name: str, expires_s: int, uid: int) -> None:
        """Another end of the account; `uid` as `make` has told."""
        await self._commit(KIND, MoveJitExpiry(name, self._uid_min, _day(expires_s), uid))

    async def remove(self, name: str, uid: int) -> None:
        """All that `make` has made, and what came of it; fine when nothing is there. NotOurs, and nothing is changed,
        for an ordinary account."""
        try:
            await self._commit(KIND, RemoveJitAccount(name, self._paths.home_dir, self._uid_min, uid))
        except CommitError as error:
            raise NotOurs(error.problem) if f"{name} {ORDINARY}" in error.problem else error from None
        await self._commit("sudoers", WithdrawSudo(name, self._paths.sudoers_dir))

    async def _commit(self, kind: str, order: Message) -> Committed:
        part, request = self._, type(order).__name__
        part.audit(Entry("commit", kind=kind, request=request, decision="intended", detail=summary(order)))
        try:
            answer = (await part.fleet.do(kind, order, final=(Committed,)))[-1][0]
            if isinstance(answer, CommitFailed):
                raise CommitError(answer.problem, changed=answer.changed, paths=answer.paths)
            if not isinstance(answer, Committed):
                raise CommitError(f"{type(answer).__name__} came back", changed=True)
        except AgentError as error:
            part.audit(Entry("commit", kind=kind, request=request, decision="failed", detail=str(error)))
            raise
        part.audit(Entry("commit", kind=kind, request=request, decision="done", detail=answer.fact))
        part.say("info", "accounts", answer.fact)
        return answer


def _day(expires_s: int) -> int:
    """The day from which on nobody can log in, counted from 1970: the one after (provisioning.md 11)."""
    return min(max(expires_s, 0), LATEST_S) // A_DAY_S + 1
