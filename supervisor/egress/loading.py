# SPDX-License-Identifier: Apache-2.0
"""Owns one attempt to have the rule loaded: a committer's, which tries it from outside, and then the probe from inside.

Runs in the supervisor. Which mechanism is tried, and when, is the guard's affair.
"""

import os
import socket
from typing import NamedTuple

from msgspec.structs import replace

from ipc.descriptors import close_all
from ipc.errors import AgentError
from ipc.messages import CommitFailed, Committed, EgressGuarded, GuardEgress, InputRefused, Message, OpenEgress
from supervisor.egress.account import Account
from supervisor.egress.probe import why_stopped
from supervisor.egress.sockets import Sockets
from supervisor.fleet import Fleet
from supervisor.loop import Loop

KIND = "egress"


class Loaded(NamedTuple):
    """Loaded. `told` is a descriptor that hears of changes (of none that matter, if `deaf`), `canary` listens at what
    nobody but the supervisor can reach; whoever gets them closes them. `untried`: why nobody can tell that it is right;
    `disturbed`: nor can it be told now, because somebody has changed rules meanwhile. `lacking`: what of it can't be in
    force here."""

    told: int
    canary: socket.socket
    untried: str = ""
    disturbed: bool = False
    deaf: bool = False
    lacking: str = ""

    def close(self) -> None:
        os.close(self.told)
        self.canary.close()


class NotLoaded(NamedTuple):
    """Why not. `unchanged`: what was there before, whatever that is, is there still."""

    why: str
    unchanged: bool


class Loader:
    """Loads the rule and takes it away."""

    def __init__(self, loop: Loop, fleet: Fleet, sockets: Sockets, account: Account) -> None:
        self._loop = loop
        self._fleet = fleet
        self._sockets = sockets
        self._account = account
        # Of sockets that are made under the rule's uid.
        self._knows_cgroups = True

    async def load(self, request: GuardEgress) -> Loaded | NotLoaded:
        """The rule in force; or why it is not. A rule that would refuse the supervisor is not left, as far as that
        can be seen to; one that can't be tried is."""
        if request.rule.uid and not self._knows_cgroups:
            request = replace(request, rule=replace(request.rule, cgroup=""))
        try:
            received = await self._fleet.do(KIND, request, final=(EgressGuarded,))
        except AgentError as error:
            return NotLoaded(str(error), unchanged=False)
        answer, descriptors = received[-1]
        if not isinstance(answer, EgressGuarded):
            close_all(descriptors)
            unchanged = isinstance(answer, InputRefused) or (isinstance(answer, CommitFailed) and not answer.changed)
            return NotLoaded(_problem(answer), unchanged)
        told, canary = descriptors
        loaded = Loaded(
            told, socket.socket(fileno=canary), answer.untried, answer.disturbed, answer.deaf, answer.lacking
        )
        self._account.loaded(answer.fact)
        return loaded if loaded.untried or loaded.disturbed else await self._tried(request, loaded)

    async def _tried(self, request: GuardEgress, loaded: Loaded) -> Loaded | NotLoaded:
        """From within."""
        rule = request.rule
        try:
            failure = await self._why_stopped(loaded.canary, by_uid=rule.mechanism != "nft-cgroup")
        except OSError as error:
            return loaded._replace(untried=f"a packet of the supervisor's does not get as far as the rule ({error})")
        if not failure:
            return loaded
        loaded.close()
        # It would refuse the supervisor.
        await self.open()
        if rule.uid and rule.cgroup:
            # A kernel may know cgroups, and not those of sockets: then without them, in this life for good.
            self._knows_cgroups = False
            return await self.load(request)
        return NotLoaded(failure, unchanged=False)

    async def open(self) -> str:
        """Nothing of ours is left, if a committer can see to that; why not, empty when it has."""
        try:
            answer = (await self._fleet.do(KIND, OpenEgress(), final=(Committed,)))[-1][0]
        except AgentError as error:
            problem = str(error)
        else:
            problem = "" if isinstance(answer, Committed) else _problem(answer)
        if problem:
            self._account.not_removed(problem)
        return problem

    async def _why_stopped(self, canary: socket.socket, *, by_uid: bool) -> str:
        """The inside probe; OSError when it can't be made."""
        unconnected = await self._sockets.make(by_uid=by_uid)
        why = await why_stopped(self._loop, unconnected, canary.getsockname())
        return f"a socket of the supervisor's own is refused: {why}" if why else ""


def _problem(answer: Message) -> str:
    """Why a committer did not do it."""
    if isinstance(answer, CommitFailed):
        return answer.problem
    if isinstance(answer, InputRefused):
        return f"{answer.where}: {answer.problem}"
    return f"{type(answer).__name__} came back"
