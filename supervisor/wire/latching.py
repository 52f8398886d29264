# SPDX-License-Identifier: Apache-2.0
"""Owns having a key of ours latched: the stored one where there is one that the host takes, else one that it makes.

Runs in the supervisor. Latching can't be undone: it must never attest a key that is not on disk.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from ipc.errors import AgentError, HostError, HostRefused, ResourceGone
from ipc.messages import ChannelKey, Message, ParseChannelKey
from supervisor.audit_log_entry import Decision
from supervisor.clock import Clock
from supervisor.loop import Promise
from supervisor.wire.host import WireServer
from supervisor.wire.key_store import Found, KeyStore, same
from supervisor.wire.signing import SigningKey

# After an attempt that failed; twice as long after each that follows.
FIRST_WAIT_S, LONGEST_WAIT_S = 15.0, 3600.0
# The host has not judged the key: it is the same one that has to be attested.
NO_VERDICT = frozenset({429, *range(500, 600)})

T = TypeVar("T", bound=Message)
# What (key written, attest), the decision, and the rest, for the audit log.
Tell = Callable[[str, str, Decision], None]


class Parse(Protocol):
    """A document of the host's as a typed message; HostError when it is none."""

    def __call__(
        self, request: Message, name: str, document: bytes, kind: type[T]
    ) -> Coroutine[Promise[Any], None, T]: ...


class Latching:
    """Attempts to have a key latched, each for the caller to ask for."""

    def __init__(self, clock: Clock, host: WireServer, parse: Parse, store: KeyStore, tell: Tell) -> None:
        self._clock = clock
        self._host = host
        self._parse = parse
        self._store = store
        self._tell = tell
        self._wait_s, self._next_at = FIRST_WAIT_S, float("-inf")
        self._refused = ""

    async def try_now(self) -> tuple[SigningKey, Found] | None:
        """The key that the host knows now, and what was in the store; None when it is too soon for another attempt.

        AgentError or ValueError when it failed."""
        if self._clock.monotonic() < self._next_at:
            return None
        try:
            found = self._store.load()
            key = found.key
            if key is not None and not await self._attest(key):
                self._give_up_or_wait(key.guid)
                key = None
            if key is None:
                key = await self._new_key()
                if not await self._attest(key):
                    raise HostError("the host does not take the key that it has just made")
        except (AgentError, ValueError):
            self._next_at = self._clock.monotonic() + self._wait_s
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
            raise
        self._wait_s, self._next_at = FIRST_WAIT_S, float("-inf")
        return key, found if key is found.key else Found(key, confirmed=False)

    def _give_up_or_wait(self, guid: str) -> None:
        """HostError unless the stored key was refused before: a host that was only late to tell that it knows this
        very key has time to say so, before another one takes its place."""
        if not same(self._refused, guid):
            self._refused = guid
            raise HostError(f"the host does not take the stored key {guid}; it is offered once more")

    async def _new_key(self) -> SigningKey:
        """A key that the host makes now, on disk before anything is done with it."""
        document = await self._host.fetch_channel_key()
        told = await self._parse(ParseChannelKey(), "channel-key", document, ChannelKey)
        key = SigningKey(told.guid, told.key)
        self._store.save(told)
        self._tell("key written", key.guid, "done")
        return key

    async def _attest(self, key: SigningKey) -> bool:
        """Whether the host takes `key`. HostError when it has not said."""
        self._tell("attest", key.guid, "intended")
        try:
            await self._host.attest(key)
        except (HostRefused, ResourceGone) as refused:
            self._tell("attest", f"{key.guid}: {refused}", "failed")
            if isinstance(refused, HostRefused) and refused.status in NO_VERDICT:
                raise
            return False
        self._tell("attest", key.guid, "done")
        return True
