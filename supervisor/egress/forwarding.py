# SPDX-License-Identifier: Apache-2.0
"""Owns the grants to the WireServer: opens each while its cgroup exists, closes it afterwards, renews what is changed.

Runs in the supervisor, where policy has a grant, and is not even loaded elsewhere. It touches no rule itself.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from ipc.descriptors import close_all
from ipc.errors import AgentError
from ipc.messages import (
    CloseGrant,
    CommitFailed,
    Committed,
    Forward,
    GrantWatched,
    MakeSlice,
    OpenGrant,
    RedirectAttached,
    RedirectLoaded,
    WatchGrant,
    WireGrant,
)
from ipc.messages.grants import MOST_GRANTS
from policy.egress import hierarchy, redirect
from policy.extensions import slice_of
from policy.grants import told
from supervisor.audit_log_entry import Audit, Decision, Entry
from supervisor.contact import Contact
from supervisor.egress.events import OVERFLOWN, Watch
from supervisor.egress.passage import Passage
from supervisor.egress.wanted import OWN_CGROUP, own_cgroup
from supervisor.fleet import Fleet
from supervisor.kernel_view import read
from supervisor.loop import Loop, TimedOut
from supervisor.wire.forwarded import LIMITS, Forwarded
from supervisor.wire.host import WireServer

KIND, OF_SLICES = "redirect", "handler-start"
SYSTEMD = "/run/systemd/system"
# How often it is looked whether a handler's cgroup is there: one call of the kernel's for each.
LOOK_S = 2.0
# When the service stops. What is left of a table then admits nobody.
END_S = 2.0
# A grant that can't be opened is tried again, and its table that somebody changes put back, no faster than so.
AGAIN_S, PACE_S = 30.0, 0.25
MOUNTS = "/proc/self/mountinfo"


class Opened:
    """One grant in force, or about to be: `way` while it is."""

    def __init__(self, slot: int, cgroup: str, grant: WireGrant) -> None:
        self.slot = slot
        self.cgroup = cgroup
        self.grant = grant
        self.closed = False
        self.way: Way | None = None

    def let_go(self) -> None:
        """From this moment the handler is refused. The table stays until it is removed or replaced."""
        way, self.way = self.way, None
        if way is not None:
            way.watch.close()
            close_all(way.kept)
            way.passage.close()


class Way(NamedTuple):
    """What a redirect is made of. `kept` are the listener, and what keeps programs attached, if it is not `natted`."""

    passage: Passage
    watch: Watch
    kept: tuple[int, ...]
    natted: bool


class Grants:
    """Use: `begin` for those of the policy; `open_grant` and `close_grant` by whoever starts a handler."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it works with, each given once, in one place
        self,
        loop: Loop,
        fleet: Fleet,
        host: Callable[[], WireServer],
        say: Callable[[str, str, str], None],
        audit: Audit,
        cgroups: str,
    ) -> None:
        """`host` gives the client to the host; `cgroups` is where cgroup2 is mounted."""
        self.opened: dict[int, Opened] = {}
        self._loop = loop
        self._fleet = fleet
        self._host = host
        self._say = say
        self._audit = audit
        self._cgroups = cgroups
        self._said: dict[str, str] = {}
        self._ended = False

    def begin(self, grants: Iterable[WireGrant]) -> None:
        """Keep each of these open for as long as its cgroup exists."""
        for grant in grants:
            self._loop.start(f"grant of {grant.handler}", self._keep(grant), detached=True)

    async def end(self) -> None:
        """The service stops: close all, as far as there is time, and open none any more."""
        self._ended = True
        closing = [self._loop.start("end of a grant", self.close_grant(each)) for each in self.opened.values()]
        with suppress(TimedOut):
            await self._loop.within(self._loop.start("grants", self._loop.all(*closing)), END_S)

    async def open_grant(self, cgroup: str, grant: WireGrant) -> Opened:
        """Open `grant` for the processes in `cgroup` and below it; AgentError says why not."""
        if f"{own_cgroup(read(OWN_CGROUP))}/".startswith(f"{cgroup}/"):
            raise AgentError(f"its cgroup, {cgroup}, has this agent in it: name one that is the handler's alone")
        slot = next((slot for slot in range(MOST_GRANTS) if slot not in self.opened), None)
        if slot is None:
            raise AgentError(f"{MOST_GRANTS} grants are open")
        self.opened[slot] = opened = Opened(slot, cgroup, grant)
        try:
            await self._make_way(opened)
        except AgentError:
            del self.opened[slot]
            raise
        return opened

    async def close_grant(self, opened: Opened) -> None:
        """The handler is refused at once, and nothing of the grant is left."""
        opened.closed = True
        opened.let_go()
        handler, problem = opened.grant.handler, ""
        try:
            answer = (await self._fleet.do(KIND, CloseGrant(opened.slot), final=(Committed,)))[-1][0]
            problem = answer.problem if isinstance(answer, CommitFailed) else ""
        except AgentError as error:
            problem = str(error)
        self.opened.pop(opened.slot, None)
        if problem:
            self._note(handler, "failed", f"closed; its table is left, and admits nobody: {problem}")
        else:
            self._note(handler, "done", "closed")

    async def _make_way(self, opened: Opened) -> None:
        """By a committer; AgentError when there is none."""
        address = self._host().status().address
        request = OpenGrant(opened.slot, opened.cgroup, address, opened.grant.port)
        received = await self._fleet.do(KIND, request, final=(RedirectAttached, RedirectLoaded))
        answer, descriptors = received[-1]
        if not isinstance(answer, RedirectAttached | RedirectLoaded) or opened.closed:
            close_all(descriptors)
            raise AgentError(answer.problem if isinstance(answer, CommitFailed) else "it was closed again")
        listener, told_at, *links = descriptors
        passage = Passage(
            self._loop,
            self._fleet,
            Forwarded(self._host().beside(LIMITS, opened.grant.port), address, opened.grant.port),
            Forward(opened.grant, address),
            listener,
            self._say,
            self._audit,
        )
        opened.way = Way(
            passage, self._watched(opened, told_at), (listener, *links), isinstance(answer, RedirectLoaded)
        )
        self._loop.start(f"passage of {opened.grant.handler}", passage.run(), detached=True)
        self._note(opened.grant.handler, "done", f"{told(opened.grant)}; {answer.fact}")

    async def _keep(self, grant: WireGrant) -> None:
        """For ever: open while the cgroup exists. One of the same name that was made anew is another one."""
        opened, number = None, 0
        while not self._ended:
            wait_s, there = LOOK_S, self._number(grant.cgroup)
            if opened is not None and there != number:
                await self.close_grant(opened)
                opened = None
            if opened is None:
                opened, number, wait_s = await self._opened(grant, there)
            await self._loop.sleep(wait_s)

    async def _opened(self, grant: WireGrant, there: int) -> tuple[Opened | None, int, float]:
        """The grant, if there is anybody to open it for, that one's number, and how long to wait for the next look."""
        try:
            if there := there or await self._made(grant):
                return await self.open_grant(grant.cgroup, grant), there, LOOK_S
        except AgentError as error:
            self._note(grant.handler, "failed", f"not open, tried again every {AGAIN_S:g} s: {error}")
            return None, 0, AGAIN_S
        return None, 0, LOOK_S

    def _watched(self, opened: Opened, told_at: int) -> Watch:
        return Watch(self._loop, told_at, redirect.table(opened.slot), lambda who: self._on_change(opened, who))

    async def _look_at(self, opened: Opened) -> None:
        """The table is loaded anew below what is open, so that no request under way is lost."""
        await self._loop.sleep(PACE_S)
        way = opened.way
        if way is None or self._ended:
            return
        request = WatchGrant(opened.slot, opened.cgroup, self._host().status().address, way.natted, opened.grant.port)
        try:
            answer, descriptors = (await self._fleet.do(KIND, request, final=(GrantWatched,)))[-1]
        except AgentError as error:
            answer, descriptors = CommitFailed(str(error)[:1000], changed=False), ()
        if opened.way is not way:
            # It was closed meanwhile: the table must not outlive that.
            close_all(descriptors)
            if opened.slot not in self.opened:
                with suppress(AgentError):
                    await self._fleet.do(KIND, CloseGrant(opened.slot), final=(Committed,))
        elif isinstance(answer, GrantWatched):
            opened.way = way._replace(watch=self._watched(opened, *descriptors))
        else:
            self._on_change(opened, f"somebody, as it seems ({getattr(answer, 'problem', answer)})")

    def _on_change(self, opened: Opened, who: str) -> None:
        """Until the table is put back anybody could be at the listener: nobody is. Where it is only not known whether
        it was changed, whoever uses it now goes on."""
        if who == OVERFLOWN:
            self._loop.start(f"look at {opened.grant.handler}", self._look_at(opened), detached=True)
            return
        opened.let_go()
        self._note(opened.grant.handler, "failed", f"its table was changed by {who}: it is put back")
        self._loop.start(f"renewal for {opened.grant.handler}", self._renew(opened), detached=True)

    async def _renew(self, opened: Opened) -> None:
        wait_s = PACE_S
        while not (opened.closed or self._ended):
            await self._loop.sleep(wait_s)
            try:
                await self._make_way(opened)
            except AgentError as error:
                wait_s = AGAIN_S
                self._note(opened.grant.handler, "failed", f"not put back, tried every {AGAIN_S:g} s: {error}")
            else:
                return

    async def _made(self, grant: WireGrant) -> int:
        """The number of a handler's slice, which is made, so that its first command finds the grant open already; 0 of
        what is somebody else's to make. AgentError when systemd says no."""
        name = grant.cgroup.rpartition("/")[2]
        if name != slice_of(grant.handler) or not os.path.isdir(SYSTEMD):
            return 0
        answer = (await self._fleet.do(OF_SLICES, MakeSlice(name), final=(Committed,)))[-1][0]
        if isinstance(answer, CommitFailed):
            raise AgentError(answer.problem)
        return self._number(grant.cgroup)

    def _number(self, cgroup: str) -> int:
        """What the kernel knows the cgroup by, 0 when it is not there."""
        try:
            return os.stat(f"{self._cgroups}/{cgroup}").st_ino
        except OSError:
            return 0

    def _note(self, handler: str, decision: Decision, text: str) -> None:
        """Once, if it is the same of that handler again."""
        if text != self._said.get(handler):
            self._said[handler] = text
            # What a grant lets pass begins with the name by itself.
            whole = text if text.startswith(f"{handler} ") else f"{handler}: {text}"
            self._say("info" if decision == "done" else "error", "firewall", f"grant: {whole}")
            self._audit(Entry("grant", kind=KIND, decision=decision, detail=whole))


def begin(  # noqa: PLR0913, PLR0917 - what it works with, each given once, in one place
    loop: Loop,
    fleet: Fleet,
    contact: Contact,
    grants: Iterable[WireGrant],
    say: Callable[[str, str, str], None],
    audit: Audit,
) -> Grants:
    """Keep the policy's `grants` open; while this process can still open files, because more is loaded than here."""
    made = Grants(loop, fleet, lambda: contact.host, say, audit, mounted())
    made.begin(grants)
    return made


def mounted() -> str:
    """Where all of cgroup2 is mounted."""
    try:
        with open(MOUNTS, "rb") as table:
            below = hierarchy.below(table.read().decode("utf-8", "surrogateescape"))
    except (OSError, ValueError):
        return hierarchy.ROOT
    return f"{hierarchy.ROOT}/{below}".rstrip("/")
