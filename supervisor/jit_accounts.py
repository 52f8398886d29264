# SPDX-License-Identifier: Apache-2.0
"""Owns which accounts the platform has asked for (JIT, provisioning.md 11): made whole or not at all, gone in time.

Runs in the supervisor. It writes down what is begun, so that the next process takes back what is not whole.
"""

import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from msgspec.structs import replace

from ipc.errors import AgentError, StateError
from ipc.messages import RemoteAccess, RemoteUser
from ipc.messages.jit import COMMENT
from supervisor import facts
from supervisor.audit_log_entry import Decision, Entry
from supervisor.goal_state.shown import Account
from supervisor.jit_orders import KIND, LATEST_S, JitOrders, NotMade, NotOurs, Opens
from supervisor.jit_times import Ends, Pauses
from supervisor.loop import Promise
from supervisor.parts import Parts
from supervisor.records import JitAccount, JitAccountGone, JitAccountNoted
from supervisor.validate import NO_USERS, USER

MOST_ACCOUNTS = 64
# The wall clock may be set at any time: as long as there is an account, it is looked at as often as that.
LOOK_EVERY_S = 60.0


class JitAccounts:
    """Those that are there, and those that are wanted. It is made while the accounts can be read: from then on nobody
    else makes such accounts."""

    def __init__(self, parts: Parts, opens: Opens, host_now: Callable[[], float | None]) -> None:
        """`opens` gives the passwords, by their envelopes; `host_now` the host's time, None when it is not known."""
        self._ = parts
        self._orders = JitOrders(parts, opens)
        self._noted = dict(parts.journal.state.jit)
        self._known = {name: account for name, account in self._noted.items() if account.stage != "made"}
        for name, uid, comment in self._present():
            account = self._noted.get(name, JitAccount(LATEST_S, "made"))
            # Its user may have added to the comment by chfn: then it is the one that we have made by its uid.
            if comment == COMMENT or (uid > 0 and uid == account.uid):
                self._known[name] = replace(account, uid=uid)
        # Nothing is known of that before the first goal state.
        self._wanted: frozenset[str] | None = None
        # Envelope and end of those that are wanted and not there yet.
        self._missing: dict[str, tuple[str, int]] = {}
        self._ends = Ends(parts.loop.clock, host_now)
        self._removals, self._makings = Pauses(parts.loop.clock), Pauses(parts.loop.clock)
        self._busy: Promise[None] | None = None
        self._cancel: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Take back what an earlier process has left half done; from now on each account ends in time."""
        for name in self._noted.keys() - self._known.keys():
            self._note(JitAccountGone(name))
        if self._known:
            self._start_sweep()

    async def take(self, remote: RemoteAccess | None) -> None:
        """Have the accounts of `remote`, and no other JIT account; None: the goal state has no such document.

        What can't be had is said, never raised: no account keeps another one from being made or removed."""
        await self._alone(partial(self._take, remote))

    async def _take(self, remote: RemoteAccess | None) -> None:
        users = () if remote is None else remote.users
        self._wanted = frozenset(user.name for user in users)
        self._missing = self._chosen(users)
        self._makings.clear()
        for name, (_, expires_s) in list(self._missing.items()):
            if name in self._known and self._known[name].stage == "made":
                del self._missing[name]
                await self._move(name, expires_s)
        await self._sweep()

    def shown(self) -> tuple[Account, ...]:
        """Those that there are, and those that are to be made."""
        there = [Account(name, one.stage, one.expires_s) for name, one in self._known.items()]
        wanted = self._missing.items()
        missing = [Account(name, "missing", ends) for name, (_, ends) in wanted if name not in self._known]
        return (*there, *missing)

    def _chosen(self, users: Iterable[RemoteUser]) -> dict[str, tuple[str, int]]:
        """Envelope and end of each that can be had, by name."""
        chosen: dict[str, tuple[str, int]] = {}
        for user in users:
            if not USER.fullmatch(user.name) or user.name in NO_USERS:
                self._refuse(user.name[:64], "no account may have that name")
            elif user.expires_s is None:
                self._refuse(user.name, f"its Expiration is unusable: {user.problem}")
            elif user.name in chosen:
                self._refuse(user.name, "it is named twice, the first one counts")
            elif len(chosen) == MOST_ACCOUNTS:
                self._refuse(user.name, f"there are more than {MOST_ACCOUNTS}")
            else:
                chosen[user.name] = user.password, min(user.expires_s, LATEST_S)
        return chosen

    async def _make(self, name: str, envelope: str, expires_s: int) -> None:
        if expires_s <= self._ends.now():
            del self._missing[name]
            self._refuse(name, "its time is over")
            return
        self._ends.left_s(name, expires_s)  # from now on its time is watched: it may be over before it is made
        try:
            password_hash = await self._orders.hash(envelope)
            self._set(name, JitAccount(expires_s, "begun"))
            uid = await self._orders.make(name, expires_s, password_hash)
            self._set(name, JitAccount(expires_s, "made", uid))
            del self._missing[name]
            self._makings.forget(name)
            self._.say("info", "accounts", f"JIT account {name!r} is made, until {_utc(expires_s)}")
        except AgentError as error:
            pause_s = self._makings.put_off(name)
            if self._.fleet.winding_up:
                return  # the next process takes back what was begun
            self._refuse(name, f"{error}; tried again in {pause_s:g} s", "failed")
            if isinstance(error, NotMade):
                self._forget(name)
            elif name in self._known:
                await self._remove(name)

    async def _move(self, name: str, expires_s: int) -> None:
        """Follow an end that the host has changed; one that has come is the sweep's."""
        account = self._known[name]
        if expires_s == account.expires_s:
            return
        try:
            if expires_s > self._ends.now():
                await self._orders.move(name, expires_s, account.uid)
            self._set(name, replace(account, expires_s=expires_s))
            self._.say("info", "accounts", f"JIT account {name!r} ends at {_utc(expires_s)} now")
        except AgentError as error:
            self._.say("error", "accounts", f"JIT account {name!r} keeps its end: {error}")

    async def _sweep(self) -> None:
        """Remove what is over, not wanted, or not whole; make what is wanted and not there."""
        for name in [each for each in self._known if self._is_due(each) and not self._removals.left_s(each)]:
            await self._remove(name)
        for name, (envelope, expires_s) in list(self._missing.items()):
            if name not in self._known and not self._makings.left_s(name):
                await self._make(name, envelope, expires_s)
        self._arm()

    async def _remove(self, name: str) -> None:
        account = self._known[name]
        with suppress(StateError):  # it goes all the same: that it is there can be seen without a journal
            self._set(name, replace(account, stage="ending"))
        try:
            await self._orders.remove(name, account.uid)
        except AgentError as error:
            if isinstance(error, NotOurs) and not account.uid:
                # Killed before useradd could refuse that name: it never was ours.
                self._.say("warning", "accounts", f"{error}; no JIT account {name!r} was made")
                self._forget(name)
                return
            pause_s = self._removals.put_off(name)
            self._.say(
                "error", "accounts", f"JIT account {name!r} can't be removed: {error}; tried again in {pause_s:g} s"
            )
        else:
            self._forget(name)

    def _is_due(self, name: str) -> bool:
        account = self._known[name]
        is_unwanted = self._wanted is not None and name not in self._wanted
        return account.stage != "made" or is_unwanted or self._ends.left_s(name, account.expires_s) <= 0

    def _arm(self) -> None:
        """Look again when the next one is over or is to be tried again, and now and then until it is."""
        self._cancel()
        if names := self._known.keys() | self._missing.keys():
            self._cancel = self._.loop.call_later(min(LOOK_EVERY_S, *map(self._left_s, names)), self._start_sweep)

    def _left_s(self, name: str) -> float:
        """How long nothing is to be done about it, as far as the clocks tell now."""
        if name not in self._known:
            return self._makings.left_s(name)
        if self._is_due(name):
            return self._removals.left_s(name)
        return self._ends.left_s(name, self._known[name].expires_s)

    def _start_sweep(self) -> None:
        self._.loop.start("JIT accounts", self._alone(self._sweep), detached=True)

    async def _alone(self, work: Callable[[], Coroutine[Promise[Any], None, None]]) -> None:
        """One after the other: goal states and timers come when they like."""
        while self._busy is not None:
            await self._busy
        mine = self._busy = Promise()
        try:
            await work()
        finally:
            self._busy = None
            mine.fulfil(None)

    def _set(self, name: str, account: JitAccount) -> None:
        """From here on it stands so, whatever happens. StateError when that can't be written: then nothing may."""
        self._.journal.append(JitAccountNoted(name, account.expires_s, account.stage, account.uid))
        self._known[name] = account

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)
        self._removals.forget(name)
        self._ends.forget(name)
        self._note(JitAccountGone(name))

    def _note(self, record: JitAccountGone) -> None:
        try:
            self._.journal.append(record)
        except StateError as error:
            self._.say("warning", "journal", str(error))

    def _refuse(self, name: str, why: str, decision: Decision = "refused") -> None:
        text = f"JIT account {name!r} is not made: {why}"
        self._.say("warning" if decision == "refused" else "error", "accounts", text)
        self._.audit(Entry("decision", kind=KIND, request="RemoteUser", decision=decision, detail=text))

    def _present(self) -> list[tuple[str, int, str]]:
        try:
            return facts.accounts_commented(COMMENT)
        except OSError as error:
            self._.say("warning", "accounts", f"{facts.ACCOUNTS} can't be read: {error.strerror}")
            return []


def _utc(wall: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall))
