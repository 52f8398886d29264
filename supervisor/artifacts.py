# SPDX-License-Identifier: Apache-2.0
"""Owns from where an artifact is fetched: directly from storage or by way of the host, and from which of its places.

Runs in the supervisor. No channel is given up because of another artifact, and none is taken for good: the reference
swaps the two for the whole process at the first failure.
"""

from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from ipc.digest import sha256_hex
from ipc.errors import HostError, HostUnreachable, StateError
from supervisor.loop import Loop, Promise, TimedOut
from supervisor.prepared import Errand
from supervisor.wire.urls import shown

# hostga-plugin.md 4.
BUDGET_S = 300.0
# A place by which an artifact came is tried first for so long; then the direct way has its turn again.
REMEMBERED_S = 600.0
MOST_REMEMBERED = 64
# Too little time for a transfer to be worth its beginning.
LEAST_S = 1.0
TOLD_CHARACTERS = 900

Channel = Literal["storage", "host"]
Fetching = Coroutine[Promise[Any], None, bytes]
# Brings a number: of bytes, or a descriptor's.
Filling = Coroutine[Promise[Any], None, int]
# Takes a descriptor, good until it ends; what is wrong with the content, empty if nothing is.
Use = Callable[[int], Coroutine[Promise[Any], None, str]]
T = TypeVar("T")


class Direct(Protocol):
    """The way to storage without the host."""

    def fetch(self, url: str, most_bytes: int, seconds: float, errand: Errand | None) -> Fetching: ...

    def fetch_into(self, url: str, file: int, most_bytes: int, seconds: float, errand: Errand | None) -> Filling: ...


class ByHost(Protocol):
    """The host's own way there."""

    def artifact(self, url: str, *, manifest_url: str, verify: bool, most_bytes: int) -> Fetching: ...

    def artifact_into(self, url: str, file: int, *, manifest_url: str, most_bytes: int) -> Filling: ...


class File(Protocol):
    """A file that is filled, and then only read (supervisor.extensions.nameless)."""

    writable: int

    def settle(self, loop: Loop, size: int) -> Filling: ...

    def close(self) -> None: ...


class _Wanted(msgspec.Struct, frozen=True):
    """One artifact, and how to tell that it came whole."""

    what: str
    most_bytes: int
    manifest_url: str
    verify: bool
    size: int | None
    sha256: str | None
    errand: Errand | None

    def problem(self, content: bytes) -> str:
        """Why `content` can't be it; empty if it may."""
        if self.size is not None and len(content) != self.size:
            return f"{len(content)} bytes came, {self.size} are expected"
        if self.sha256 is not None and sha256_hex((content,)) != self.sha256.lower():
            return "its SHA-256 is not the expected one"
        return ""


class Artifacts:
    """Fetches by either channel, whichever has it."""

    def __init__(self, loop: Loop, storage: Direct, plugin: ByHost, chance: Callable[[], float]) -> None:
        """`chance` gives random numbers in [0, 1): not every VM should ask the same place first."""
        self._loop = loop
        self._storage = storage
        self._plugin = plugin
        self._chance = chance
        # What has come by way of the host, and when; the oldest first.
        self._by_host: OrderedDict[str, float] = OrderedDict()

    async def fetch(  # noqa: PLR0913 - an artifact and how to tell that it came whole
        self,
        urls: Sequence[str],
        what: str,
        *,
        most_bytes: int,
        manifest_url: str = "",
        verify: bool = False,
        size: int | None = None,
        sha256: str | None = None,
        budget_s: float = BUDGET_S,
        errand: Errand | None = None,
    ) -> bytes:
        """The artifact `what`, which stands at each of `urls`; `manifest_url` and `verify` are for the host
        (HostPlugin.artifact). HostUnreachable, naming what was wrong with each place, when there is none left or
        `budget_s` has gone by. One that is not of `size`, or has not the digest `sha256` in hex, is fetched elsewhere.

        A place that hangs has half of the time that is left, the last one all of it: each has its turn. What is of one
        `errand` may be fetched by one worker (Fleet.do)."""
        wanted = _Wanted(what, most_bytes, manifest_url, verify, size, sha256, errand)
        return await self._first(urls, what, budget_s, partial(self._try, wanted))

    async def fetch_file(  # noqa: PLR0913 - a package and what becomes of it
        self,
        urls: Sequence[str],
        what: str,
        make: Callable[[], File],
        use: Use,
        *,
        most_bytes: int,
        manifest_url: str,
        budget_s: float = BUDGET_S,
        errand: Errand | None = None,
    ) -> None:
        """The same for one too large for memory: each try gets a file of its own by `make`, and if it came whole `use`
        says whether it is any good; if not it is fetched elsewhere. StateError where no file can be made."""

        async def attempt(url: str, channel: Channel, seconds: float) -> tuple[str, None]:
            file = make()
            try:
                if channel == "storage":
                    filling = self._storage.fetch_into(url, file.writable, most_bytes, seconds, errand)
                else:
                    by = self._plugin
                    filling = by.artifact_into(url, file.writable, manifest_url=manifest_url, most_bytes=most_bytes)
                problem, size = await self._within(what, url, filling, seconds)
                if size is None:
                    return problem, None
                problem = await use(await file.settle(self._loop, size))
                return f"{shown(url)}: {problem}" if problem else "", None
            except StateError as error:
                return f"{shown(url)}: {error}", None
            finally:
                file.close()

        await self._first(urls, what, budget_s, attempt)

    async def _first(
        self,
        urls: Sequence[str],
        what: str,
        budget_s: float,
        attempt: "Callable[[str, Channel, float], Coroutine[Promise[Any], None, tuple[str, T]]]",
    ) -> T:
        """What `attempt` brings of the first place with which it finds nothing wrong."""
        ends = self._loop.clock.monotonic() + budget_s
        problems = []
        places = list(self._places(urls))
        for url, channel in places:
            left_s = ends - self._loop.clock.monotonic()
            if left_s < LEAST_S:
                problems.append(f"{budget_s:g} s have gone by")
                break
            share_s = left_s if (url, channel) == places[-1] else left_s / 2
            problem, content = await attempt(url, channel, share_s)
            if not problem:
                self._note(url, channel)
                return content
            problems.append(f"by {channel}: {problem}")
        told = "; ".join(problems) or "the host names no place for it"
        raise HostUnreachable(f"{what} can't be fetched: {told}"[:TOLD_CHARACTERS])

    def _places(self, urls: Sequence[str]) -> Iterator[tuple[str, Channel]]:
        """In which order they are tried: at each place directly, then by the host; the other way round where that was
        needed a while ago."""
        now = self._loop.clock.monotonic()
        for url in sorted(urls, key=lambda _: self._chance()):
            by_host = now - self._by_host.get(shown(url), float("-inf")) < REMEMBERED_S
            channels: tuple[Channel, Channel] = ("host", "storage") if by_host else ("storage", "host")
            for channel in channels:
                yield url, channel

    async def _try(self, wanted: _Wanted, url: str, channel: Channel, seconds: float) -> tuple[str, bytes]:
        """What was wrong with it, or nothing, and the content. What takes longer is left to its own limits."""
        if channel == "storage":
            fetching = self._storage.fetch(url, wanted.most_bytes, seconds, wanted.errand)
        else:
            fetching = self._plugin.artifact(
                url, manifest_url=wanted.manifest_url, verify=wanted.verify, most_bytes=wanted.most_bytes
            )
        problem, content = await self._within(wanted.what, url, fetching, seconds)
        if content is None:
            return problem, b""
        problem = wanted.problem(content)
        return f"{shown(url)}: {problem}" if problem else "", content

    async def _within(
        self, what: str, url: str, fetching: "Coroutine[Promise[Any], None, T]", seconds: float
    ) -> "tuple[str, T | None]":
        """What was wrong, or nothing and what it brought."""
        try:
            # A moment more for who keeps to the time by himself: he says better what was wrong.
            return "", await self._loop.within(self._loop.start(what, fetching, at_once=True), seconds + LEAST_S)
        except HostError as error:
            return str(error), None
        except TimedOut as error:
            return f"{shown(url)}: {error}", None

    def _note(self, url: str, channel: Channel) -> None:
        key = shown(url)
        self._by_host.pop(key, None)
        if channel == "host":
            self._by_host[key] = self._loop.clock.monotonic()
            if len(self._by_host) > MOST_REMEMBERED:
                self._by_host.popitem(last=False)
