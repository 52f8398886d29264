# SPDX-License-Identifier: Apache-2.0
"""Owns the poll of the goal state, for as long as the agent runs, and which goal state is in force.

Runs in the supervisor. A poll that brings nothing new must cost nothing more than its requests.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from ipc.errors import AgentError, HostError
from ipc.messages import HostingEnvironment, RemoteAccess
from supervisor import options
from supervisor.goal_state.adopted import Adopted
from supervisor.goal_state.carrying_out import CarryingOut, Extensions
from supervisor.goal_state.complaints import Complaints
from supervisor.goal_state.completeness import Completeness
from supervisor.goal_state.documents import Documents, Fetched
from supervisor.goal_state.keeping import Keeping, certificates_summary
from supervisor.goal_state.pacing import Pacing
from supervisor.goal_state.shown import Shown, handlers, in_force
from supervisor.goal_state.sources import News, Sources
from supervisor.goal_state.vm_settings import VmSettingsPoll
from supervisor.loop import Promise
from supervisor.parts import Parts
from supervisor.reporting.features import supported


class Certificate(Protocol):
    """A certificate of this VM."""

    @property
    def has_private_key(self) -> bool: ...


class Around(msgspec.Struct, frozen=True):
    """Whom the goal states work with. `settings` is None where vmSettings are switched off; `certificates` gives those
    that are known, by thumbprint; `is_on_hold` is asked of an artifacts profile's URL, and `take_accounts` gets what
    the platform says of accounts: neither raises AgentError. `extensions` is None where no handler can be run."""

    documents: Documents
    settings: VmSettingsPoll | None
    certificates: Callable[[], Mapping[str, Certificate]]
    is_on_hold: Callable[[str], Coroutine[Promise[Any], None, bool]]
    take_accounts: Callable[[RemoteAccess | None], Coroutine[Promise[Any], None, None]]
    extensions: Extensions | None = None


class GoalStates:
    """The poll loop. `current` is what is in force; `environment` by which names the platform knows this VM."""

    def __init__(self, parts: Parts, around: Around) -> None:
        self.current: Adopted | None = None
        self.environment: HostingEnvironment | None = None
        # Called after each change of `current`; after each poll; and with each trouble that is told.
        self.on_change: Callable[[], None] = lambda: None
        self.on_poll: Callable[[], None] = lambda: None
        self.on_trouble: Callable[[str], None] = lambda _: None
        self.keeping = Keeping(parts.layout.lib, parts.loop.clock, parts.say)
        self._ = parts
        self._around = around
        self._sources = Sources(parts, around.documents, around.settings)
        self._complaints = Complaints(parts.loop.clock)
        self._carrying_out = CarryingOut(
            parts.journal,
            parts.loop.clock,
            parts.audit,
            extensions_enabled=parts.config[options.EXTENSIONS_ENABLED],
            extensions=around.extensions,
        )
        self._pacing = Pacing(parts.loop, parts.config, lambda: self._awaits_the_first)
        self._is_forced = False
        self._completeness = Completeness(around.certificates, parts.say)
        if around.settings is not None:
            around.settings.on_unreadable = self.keeping.note_unreadable

    @property
    def waits(self) -> str:
        """What a goal state that is not put in force yet waits for; empty for nothing."""
        return self._completeness.waits

    @property
    def trouble(self) -> str:
        """Why the last poll failed; empty when it did not."""
        return self._complaints.text

    @property
    def errors_in_a_row(self) -> int:
        """How many polls failed since the last one that did not."""
        return self._complaints.in_a_row

    @property
    def features(self) -> tuple[str, ...]:
        """What the host is told that this agent has."""
        return supported(fast_track=self._sources.has_fast_track)

    def note_handlers(self) -> None:
        """Something else is to be told of the handlers of the goal state in force."""
        if self.current is not None and self._around.extensions is not None:
            self._put_in_force(replace(self.current, handlers=self._around.extensions.handlers()))

    def note_end(self, adopted: Adopted) -> None:
        """The handlers of `adopted` have all ended, each as well as it could. StateError."""
        if self.current is not None and _is_same(self.current, adopted):
            self._put_in_force(self._carrying_out.end(self.current))

    def shown(self) -> Shown:
        """All that the command shows."""
        current = self.current
        return Shown(
            in_force(current) if current is not None else None,
            tuple(handlers(current)) if current is not None else (),
            self.keeping.past(),
            self.features,
            self.trouble,
            self.errors_in_a_row,
            self.waits,
        )

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            waiting = self._pacing.begin()
            error = await self.once()
            self.on_poll()
            for each in waiting:
                each.fulfil(None) if error is None else each.fail(error)
            await self._pacing.rest()

    async def fetch_anew(self) -> None:
        """Everything once more, whatever its number; returns with the end of that poll. HostError when it fails."""
        self._is_forced = True
        await self._pacing.next_poll()

    async def once(self) -> HostError | None:
        """One poll; trouble is noted, returned, and the next poll tries again."""
        try:
            await self._poll()
        except AgentError as error:
            self._note_trouble(str(error))
            return error if isinstance(error, HostError) else HostError(str(error))
        if self._complaints.end():
            self._.say("info", "host", "answers again")
        return None

    async def _poll(self) -> None:
        await self._.contact.refresh(self._look_ahead)
        if self._.table.phase != "steady":
            return  # provisioning has failed: the next start tries again, and until then nothing else is done
        news, candidate = await self._ask(forced=self._is_forced)
        if self._completeness.lacks(candidate) and not news.forced:
            news, candidate = await self._ask(forced=True)
        if candidate is not None and not self._completeness.is_given(candidate):
            self._is_forced = True
            return
        await self._act_on(news, candidate)
        self._completeness.settle()
        self._is_forced = False

    def _look_ahead(self) -> None:
        if self._.table.phase == "steady":
            self._around.documents.look_ahead()

    async def _ask(self, *, forced: bool) -> tuple[News, Adopted | None]:
        """The news, and what they would put in force; with its certificates, if there is any need of them."""
        news = await self._sources.gather(forced=forced)
        candidate = self._sources.choose(self.current, news)
        if news.wire is not None and self._completeness.lacks(candidate):
            await news.wire.certificates
        return news, candidate

    async def _act_on(self, news: News, candidate: Adopted | None) -> None:
        """Put `candidate` in force, and all that follows from the news beside it. StateError: nothing was done."""
        if news.is_any:
            goal_state = self._.contact.goal_state
            self.keeping.begin(goal_state.incarnation if goal_state is not None else "", news.etag)
        if news.wire is not None:
            self.environment = news.wire.environment
        if candidate is not None:
            await self._adopt(candidate)
        elif self.current is not None and self.current.is_outdated:
            self._look_again(self.current, news)
        if news.wire is not None:
            await news.wire.certificates
        else:
            await self._around.documents.catch_up()
        if news.is_any:
            self.keeping.keep(news.wire, _more(news, self._around.certificates()))
        self._sources.settle(news)
        if news.wire is not None:
            await self._tell_accounts(news.wire)

    async def _adopt(self, candidate: Adopted) -> None:
        current = self.current
        if current is not None and _is_same(current, candidate):
            # The same once more, from another container perhaps, or with fresh URLs: what came of it stays.
            fresh = {"goal_state": candidate.goal_state, "bundle": candidate.bundle}
            self._put_in_force(replace(current, incarnation=candidate.incarnation, **fresh))
            if self._around.extensions is not None and self.current is not None:
                self._around.extensions.renew(self.current)
            return
        if self._.config[options.OVER_PROVISIONING] and self._is_anything_to_be_done(candidate):
            candidate = replace(candidate, is_on_hold=await _is_on_hold(candidate, self._around))
        self._carry_out(candidate)

    def _carry_out(self, candidate: Adopted) -> None:
        adopted = self._carrying_out.carry_out(candidate, self.features)
        outcome = adopted.outcome
        told = "outdated, not carried out" if adopted.is_outdated else "being carried out"
        if outcome is not None:
            told = outcome.message or "processed"
        level = "warning" if adopted.is_outdated or (outcome is not None and outcome.code) else "info"
        self._.say(level, "goal state", f"{adopted.id}, the {adopted.told_source}'s, is in force: {told}")
        self._put_in_force(adopted)

    def _put_in_force(self, adopted: Adopted) -> None:
        if adopted != self.current:
            self.current = adopted
            self.on_change()

    def _look_again(self, current: Adopted, news: News) -> None:
        """An outdated goal state counts again as soon as the HostGAPlugin says that the WireServer's are the newest."""
        if not self._sources.counts_as_outdated(current.goal_state, news.heard):
            self._carry_out(replace(current, is_outdated=False))

    def _is_anything_to_be_done(self, candidate: Adopted) -> bool:
        """One that has ended because it was on hold has its extensions still to come."""
        return self._around.extensions is not None or not self._carrying_out.was_ended(candidate)

    async def _tell_accounts(self, fetched: Fetched) -> None:
        if fetched.accounts_told:
            await self._around.take_accounts(fetched.remote_access)
        else:
            self._.say("warning", "goal state", "the platform's accounts are not asked for: there is no transport key")

    @property
    def _awaits_the_first(self) -> bool:
        """Whether no goal state has come to its end on this VM yet."""
        run = self._.journal.state.goal_state
        return self._.table.phase == "steady" and self.current is None and (run is None or not run.ended)

    def _note_trouble(self, text: str) -> None:
        if self._complaints.note(text):
            again = f"asked again every {self._pacing.period_s:g} s{self._complaints.again}"
            self._.say("warning", "host", f"{text}; {again}")
            self.on_trouble(text)


def _more(news: News, known: Mapping[str, Certificate]) -> dict[str, bytes]:
    """What the history has beside the WireServer's documents."""
    more = {"Certificates.json": certificates_summary((name, one.has_private_key) for name, one in known.items())}
    return {**more, "VmSettings.json": news.heard.document} if news.heard.document else more


async def _is_on_hold(candidate: Adopted, around: Around) -> bool:
    """By vmSettings' own word, or by the profile that the WireServer names."""
    url = candidate.goal_state.profile_url
    return candidate.goal_state.on_hold if candidate.etag or not url else await around.is_on_hold(url)


def _is_same(one: Adopted, other: Adopted) -> bool:
    """Whether what was made of one holds for the other."""
    return (one.id, one.goal_state.created, one.is_outdated) == (other.id, other.goal_state.created, other.is_outdated)
