# SPDX-License-Identifier: Apache-2.0
"""Owns the host's secure channel: how it stands, whose key it knows, and whether we sign.

Runs in the supervisor. What the host says about it is JSON, which a parser reads. It must never have a key
latched where another holds the channel.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import msgspec

from ipc.errors import AgentError, HostError, HostRefused, HostUnreachable, ResourceGone
from ipc.messages import KeyStatus, ParseKeyStatus
from supervisor.audit_log_entry import Audit, Decision, Entry
from supervisor.contact import UnusableDocument
from supervisor.loop import Loop, Promise, TimedOut
from supervisor.standing import Standing
from supervisor.wire.host import WireServer
from supervisor.wire.key_store import Found, KeyStore
from supervisor.wire.latching import Latching, Parse
from supervisor.wire.signing import SigningKey

# Between two looks: where the host has the channel, and where it has none.
PERIOD_S, ABSENT_PERIOD_S = 15.0, 3600.0
# After a look that a refused request brought about, the next such one comes no sooner.
SOON_S = 5.0
NOT_FOUND = 404
TROUBLE = "secure channel"
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400

State = Literal["unknown", "absent", "off", "ours", "others", "lost", "left", "unlatched", "denied"]
LEVELS = {"others": "error", "lost": "error", "unlatched": "warning", "denied": "warning"}


class Surroundings(msgspec.Struct, frozen=True):
    """What it works with. `holder` tells what says that the Guest Proxy Agent holds the channel, empty for nothing."""

    store: KeyStore
    holder: Callable[[], str]
    say: Callable[[str, str, str], None]
    audit: Audit
    keep_secret: Callable[[str], Callable[[], None]]
    standing: Standing


class SecureChannel:
    """The channel to `host`, looked at for as long as this process lives, from `begin` on."""

    def __init__(self, loop: Loop, host: WireServer, parse: Parse, around: Surroundings) -> None:
        self.state: State = "unknown"
        self._text = "not known yet"
        self._trouble = ""
        self._loop = loop
        self._host = host
        self._parse = parse
        self._ = around
        self._first: Promise[None] | None = None
        self._resting = False
        self._wake: Promise[None] = Promise()
        self._doubted_at = float("-inf")
        self._document: bytes | None = None
        self._status: KeyStatus | HostError = HostError("not asked yet")
        self._latching = Latching(loop.clock, host, parse, around.store, self._tell)
        self._forget_secret: Callable[[], None] = lambda: None
        host.on_unknown = self.doubt

    @property
    def text(self) -> str:
        """How it stands, for `ps`."""
        trouble = f"; {self._trouble}" if self._trouble else ""
        off_s = self._host.sealing.time.guest_is_off_s
        return f"{self._text}{trouble}{f'; {_clock(off_s)}' if off_s and self.state == 'ours' else ''}"

    async def begin(self) -> None:
        """Look for the first time, before anything else is asked of the host: one that wants signatures would refuse
        even the question for its versions. HostUnreachable when there is no answer; then it has to be begun again."""
        if self._first is None:
            self._first = self._loop.start("secure channel", self._begin())
        try:
            # Whoever comes meanwhile waits for the same look: two at once could latch two keys.
            await self._first
        except HostUnreachable:
            self._first = None
            raise

    def doubt(self) -> None:
        """The host has refused a request as a stranger's: look now."""
        self._wake.fulfil(None)

    def rest(self) -> None:
        """Look no more: the agent was told to do nothing."""
        self._resting = True

    @property
    def _period_s(self) -> float:
        return ABSENT_PERIOD_S if self.state == "absent" and not self._trouble else PERIOD_S

    async def _begin(self) -> None:
        await self._look(first=True)
        self._loop.start("secure channel", self._keep_looking(), detached=True)

    async def _keep_looking(self) -> None:
        while not self._resting:
            self._wake = Promise()
            with suppress(TimedOut):
                await self._loop.within(self._wake, self._period_s)
                await self._loop.sleep(self._doubted_at + SOON_S - self._loop.clock.monotonic())
                self._doubted_at = self._loop.clock.monotonic()
            if not self._resting:
                with suppress(HostError):  # who asks for more than that says so
                    await self._look()

    async def _look(self, *, first: bool = False) -> None:
        """One look. HostUnreachable when there is no answer; whatever else goes wrong is noted here."""
        try:
            document = await self._host.fetch_channel_status(first=first)
        except (HostRefused, ResourceGone) as refused:
            if isinstance(refused, HostRefused) and refused.status == NOT_FOUND:
                self._document, self._trouble = None, ""
                self._find_absent()
            else:
                self._note(str(refused))
            return
        try:
            await self._act(await self._read(document))
        except AgentError as error:
            self._note(str(error))
        else:
            self._trouble = ""

    def _find_absent(self) -> None:
        """This host says that it has no channel. Of one that has confirmed a key of ours that is strange: requests stay
        signed, which a host without the channel does not look at, so that nobody stops it by one answer."""
        try:
            key = self._host.sealing.key or self._.store.confirmed()
        except AgentError as error:
            self._note(str(error))
            return
        self._sign(key)
        if key is None:
            self._enter("absent", "none: this host has no such thing")
        else:
            told = "gone: this host has confirmed a key, and now says that it knows no such thing (HTTP status 404)"
            self._enter("denied", f"{told}; requests are signed with key {key.guid} all the same")

    async def _read(self, document: bytes) -> KeyStatus:
        """The status in `document`, which is parsed when its bytes are new. An unusable one leaves all as it was."""
        if document != self._document:
            self._document = None
            try:
                self._status = await self._parse(ParseKeyStatus(), "key-status", document, KeyStatus)
            except UnusableDocument as unusable:
                self._status = unusable
            self._document = document
        if isinstance(self._status, HostError):
            raise self._status
        return self._status

    async def _act(self, status: KeyStatus) -> None:
        if not status.on:
            self._sign(None)
            self._enter("off", f"off (version {status.version})")
        elif status.key_guid is None:
            await self._latch(status)
        else:
            self._find_out_whose(status, status.key_guid)

    def _find_out_whose(self, status: KeyStatus, guid: str) -> None:
        """A key is latched. Never another one."""
        found = self._.store.load(guid)
        if found.key is not None:
            self._use(status, found.key, found)
            return
        self._sign(None)
        if found.confirmed:
            self._enter("lost", f"on, but our key {guid} is lost: {found.problem}; nothing is signed", modes=status)
        elif holder := self._.holder():
            self._enter("left", f"on, left to the Guest Proxy Agent ({holder})", modes=status)
        else:
            self._enter("others", f"on, with another's key {guid}: nothing is signed", modes=status)

    async def _latch(self, status: KeyStatus) -> None:
        """The channel is on and knows no key: have it know ours, the stored one if there is one that it takes."""
        if holder := self._.holder():
            self._sign(None)
            self._enter("left", f"on, left to the Guest Proxy Agent ({holder})", modes=status)
            return
        if status.delivery != "http":
            self._sign(None)
            self._enter("unlatched", "on, but its key is delivered by vTPM, which is not known here", modes=status)
            return
        try:
            latched = await self._latching.try_now()
        except (AgentError, ValueError) as error:
            self._sign(None)
            self._enter("unlatched", f"on, but no key is latched: {error}; nothing is signed", modes=status)
            return
        if latched is not None:
            self._use(status, *latched)

    def _use(self, status: KeyStatus, key: SigningKey, found: Found) -> None:
        """The host says that it knows `key`. StateError when that can't be written down; it is used all the same."""
        if found.key is key and found.problem and self.state != "ours":
            self._.say("warning", "host", f"secure channel: {found.problem}")
        self._sign(key)
        self._enter("ours", f"on, requests are signed with key {key.guid}", modes=status)
        if not found.confirmed:
            self._.store.note_confirmed(key.guid)

    def _sign(self, key: SigningKey | None) -> None:
        """From the next request on: with `key`, or not at all."""
        if key != self._host.sealing.key:
            self._forget_secret()
            self._forget_secret = self._.keep_secret(key.secret.reveal()) if key is not None else lambda: None
            self._host.sealing.key = key

    def _enter(self, state: State, text: str, modes: KeyStatus | None = None) -> None:
        """This is how it stands; said once."""
        if modes is not None:
            text = f"{text} (version {modes.version}; WireServer {modes.wireserver}, IMDS {modes.imds})"
        if (state, text) == (self.state, self._text):
            return
        self.state, self._text = state, text
        self._.say(LEVELS.get(state, "info"), "host", f"secure channel: {self.text}")
        self._tell(state, text, "")
        if state in LEVELS:
            self._.standing.lacks(TROUBLE, text)
        else:
            self._.standing.has(TROUBLE)

    def _note(self, trouble: str) -> None:
        """A look brought nothing that could be used: all stays as it was."""
        if self.state == "unknown":
            self._text = "not known"
        if trouble != self._trouble:
            self._trouble = trouble
            self._.say("warning", "host", f"secure channel: {trouble}; looked at again in {self._period_s:g} s")

    def _tell(self, what: str, detail: str, decision: Decision) -> None:
        self._.audit(Entry("secure-channel", request=what, decision=decision, detail=detail))


def _clock(off_s: float) -> str:
    """That the guest's clock is `off_s` ahead, negative: behind."""
    size = abs(off_s)
    unit, name = next(
        ((unit, name) for unit, name in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")) if size >= 2 * unit), (1, "s")
    )
    where = "ahead of" if off_s > 0 else "behind"
    return f"this machine's clock is {size / unit:.0f} {name} {where} the host's, and is not used"
