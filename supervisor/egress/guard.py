# SPDX-License-Identifier: Apache-2.0
"""Owns the rule in front of the WireServer: puts it in force before anything else is done, and back when it is changed.

Runs in the supervisor. It never touches a rule itself: a committer of one request does, and two probes judge it.
"""

import socket
from collections.abc import Callable

import msgspec

from ipc.messages import GuardEgress
from ipc.messages.egress import Mechanism
from supervisor.audit_log_entry import Audit
from supervisor.egress.account import PERIOD, Account, Cause
from supervisor.egress.choice import Choice
from supervisor.egress.guests import Guests
from supervisor.egress.loading import Loaded, Loader, NotLoaded
from supervisor.egress.refusals import Refusals
from supervisor.egress.sockets import Sockets
from supervisor.egress.wanted import Wanted
from supervisor.egress.watching import NOBODY_KNOWS, Watching
from supervisor.fleet import Fleet
from supervisor.loop import Loop, Promise
from supervisor.status import Egress

# Whoever changes the rule all the time gets it back four times a second, and no more of our time.
PACE_S = 0.25
# How often it is looked whether guests are done whose end nobody tells us.
GUESTS_LOOK_S = 3.0
# The log of those who are refused costs one more committer: not while a first boot is in a hurry.
HEAR_AFTER_S = 1.0
MOST_PORTS = 16
# Changes in the moment of a load before it is taken for loaded, to be loaded again all the same.
DISTURBED_MOST = 8
ALL_THE_TIME = "somebody changes rules all the time"
MAYBE_LEFT = "it was, and nothing was loaded in its place"
FIRST = Cause("at the start")
LEFTOVERS = Cause("with a look for what another agent has left")
GUESTS_GONE, ASKED = Cause("whoever provisioned is done"), Cause("asked for by the command")


class Guard:
    """Use: `begin`, and when provisioning is over `settle`. On stop it leaves the rule in force."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it works with, each given once, in one place
        self,
        loop: Loop,
        fleet: Fleet,
        sockets: Sockets,
        wanted: Wanted,
        guests: Guests,
        say: Callable[[str, str, str], None],
        audit: Audit,
    ) -> None:
        """`say` takes (level, source, text) for the log."""
        self._loop = loop
        self._fleet = fleet
        self._sockets = sockets
        self._wanted = wanted
        self._guests = guests
        self._account = Account(wanted.mode, loop.clock, say, audit)
        self._loader = Loader(loop, fleet, sockets, self._account)
        self._refusals = Refusals(loop, fleet, say, audit)
        self._next: Promise[Cause] = Promise()
        self._watching = Watching(loop, self._on_change)
        self._begun = float("-inf")
        self._knows_leftovers = False
        self._choice = Choice(loop.clock)
        self._cancel: Callable[[], None] = lambda: None

    @property
    def status(self) -> Egress:
        """For `ps`."""
        return msgspec.structs.replace(self._account.status, refused=self._refusals.count)

    async def begin(self) -> None:
        """Return once the rule is in force, or is known not to be; until then nobody gets a socket to the host.

        No other worker is begun before that."""
        if self._wanted.mode == "off":
            await self._loader.open()
            self._account.switched_off()
            self._sockets.decide(by_uid=False)
            return
        await self._load(FIRST)
        self._loop.start("egress", self._keep(), detached=True)
        self._loop.call_later(HEAR_AFTER_S, self._hear)

    def _hear(self) -> None:
        if self._fleet.winding_up:
            return
        self._loop.start("refusals", self._refusals.begin(observes=self._wanted.mode == "observe"), detached=True)

    async def take_socket(self) -> socket.socket:
        """For the client to the host. OSError when none can be had."""
        return await self._sockets.take()

    def protect(self, address: str) -> None:
        """Before the first request to the WireServer at `address`, which may not be the one that was known first."""
        if address != self._wanted.address:
            self._wanted = msgspec.structs.replace(self._wanted, address=address)
            if self._wanted.mode != "off":
                self._sockets.withhold()
                self._next.fulfil(Cause(f"the WireServer is {address} now"))

    async def settle(self) -> None:
        """Provisioning is over: what can wait is done, and nobody but the supervisor is admitted any more, once others
        than cloud-init, which has been waited for, are done."""
        ends = self._loop.clock.monotonic() + self._guests.patience_s
        while self._guests.are_at_work and self._loop.clock.monotonic() < ends:
            await self._loop.sleep(GUESTS_LOOK_S)
        if self._guests.are_admitted:
            self._guests.dismiss()
            self._next.fulfil(GUESTS_GONE)
        elif self._wanted.mode != "off" and not self._knows_leftovers:
            self._next.fulfil(LEFTOVERS)

    def renew(self, _: str) -> str:
        """Somebody asks that it is loaded anew (a control verb): what was begun. ValueError where it is off."""
        if self._wanted.mode == "off":
            raise ValueError("the settings switch the rule off: OS.EnableFirewall is n, or Firewall.Mode is off")
        self._next.fulfil(ASKED)
        return "the rule is being loaded anew"

    async def _keep(self) -> None:
        """For ever: load it anew when something calls for that."""
        while True:
            cause = await self._next
            self._next = Promise()
            await self._paced()
            if self._fleet.winding_up:
                return
            if cause is PERIOD and self._watching.sees_it_gone():
                cause = self._account.changed(NOBODY_KNOWS)
            await self._load(cause)

    async def _paced(self) -> None:
        await self._loop.sleep(max(0.0, self._begun + PACE_S - self._loop.clock.monotonic()))

    async def _load(self, cause: Cause) -> None:
        """Put it in force by the first mechanism that both probes find right."""
        wanted = self._wanted
        self._cancel()
        self._watching.end()
        failures: list[str] = []
        unchanged, doubted = True, False
        for mechanism in self._choice.candidates(cause, wanted, self._guests):
            loaded = await self._steadily(mechanism, cause)
            if isinstance(loaded, Loaded):
                self._choice.works(mechanism)
                doubted = bool(loaded.untried)
                told = loaded.untried, loaded.lacking
                self._account.in_force(mechanism, wanted, self._guests, cause, failures, *told)
                break
            unchanged = unchanged and loaded.unchanged
            self._choice.failed(mechanism, unchanged=loaded.unchanged)
            failures.append(f"{mechanism}: {loaded.why}")
        else:
            if self._fleet.winding_up:
                return
            await self._give_way("; ".join(failures), cause, unchanged=unchanged)
        # Else another address is waited for: nobody is to be told that this one's rule is enough.
        if self._wanted is wanted:
            self._sockets.decide(by_uid=self._choice.admits not in {None, "nft-cgroup"})
        self._look_again(cause, doubted=doubted)

    def _look_again(self, cause: Cause, *, doubted: bool) -> None:
        """After a while, if there is anything to be found."""
        after_s = self._choice.look_after_s(self._wanted, self._guests, doubted=doubted)
        if after_s is not None:
            # What is still owed after a change counts as put back once it is.
            again = cause if self._choice.failures and cause.changed_by else PERIOD
            self._cancel = self._loop.call_later(after_s, lambda: self._next.fulfil(again))

    async def _give_way(self, why: str, cause: Cause, *, unchanged: bool) -> None:
        """No mechanism works. A rule that may be loaded and is not known to admit us would keep us out for ever, as the
        boot unit's would: it goes. One that was in force, and in whose place nothing was loaded, stays."""
        self._choice.failures += 1
        if self._choice.admits is not None and unchanged:
            doubt = MAYBE_LEFT
        else:
            self._choice.admits, problem = None, await self._loader.open()
            doubt = problem and f"what is left of it can't be removed ({problem})"
        self._account.failed(why, self._wanted, cause, doubt)

    async def _steadily(self, mechanism: Mechanism, cause: Cause) -> Loaded | NotLoaded:
        """As `_try`; again and again when somebody changes rules in the same moment: no fault of the mechanism."""
        loaded, times = await self._try(mechanism), 0
        while isinstance(loaded, Loaded) and loaded.disturbed:
            times += 1
            self._account.disturbed()
            if times == DISTURBED_MOST:
                self._next.fulfil(cause)
                return loaded._replace(untried=ALL_THE_TIME)
            await self._paced()
            loaded = await self._try(mechanism)
        return loaded

    async def _try(self, mechanism: Mechanism) -> Loaded | NotLoaded:
        """In force by `mechanism`, and being watched; or why not."""
        self._begun = self._loop.clock.monotonic()
        guests = self._guests
        # A uid tells no cgroup from another: as long as there are guests, what root makes is let through.
        by_uid = mechanism != "nft-cgroup"
        rule = self._wanted.rule(mechanism, guests.cgroups, root_is_guest=by_uid and guests.are_admitted)
        # What another agent left lets root through, which we are by a cgroup: a first boot does not wait for that.
        hurried = guests.vm_is_new and not by_uid and not self._sockets.are_decided
        # Our own of another mechanism, which refuses what this one admits, goes with them.
        leftovers = self._choice.admits == "iptables" != mechanism or not (self._knows_leftovers or hurried)
        request = GuardEgress(rule, self._sockets.ports[:MOST_PORTS], leftovers)
        loaded = await self._loader.load(request)
        if isinstance(loaded, NotLoaded):
            return loaded
        if loaded.disturbed:
            loaded.close()
            return loaded
        self._knows_leftovers = self._knows_leftovers or leftovers
        return self._watching.begin(loaded, rule)

    def _on_change(self, who: str) -> None:
        if not self._fleet.winding_up:
            self._next.fulfil(self._account.changed(who))
