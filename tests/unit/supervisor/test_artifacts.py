# SPDX-License-Identifier: Apache-2.0
"""Where artifacts are fetched: both channels, for each place, whichever has it whole; neither is given up for good."""

import os
from collections.abc import Callable, Sequence

import pytest

from ipc.digest import sha256_hex
from ipc.errors import HostError, HostRefused, HostUnreachable
from supervisor import artifacts
from supervisor.artifacts import Artifacts
from supervisor.loop import Loop, Promise

# None: nothing comes, ever.
Outcome = bytes | HostError | None
A, B = "https://a.example/m.xml?sig=secret", "https://b.example/m.xml?sig=secret"


class Still:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Channels:
    """Both ways, as one: `has` gives what comes of a URL by a channel."""

    def __init__(self, has: Callable[[str, str], Outcome], clock: Still, takes_s: float = 0.0) -> None:
        self.tried: list[tuple[str, str]] = []
        self.manifests: list[tuple[str, bool]] = []
        self.seconds: list[float] = []
        self._has = has
        self._clock = clock
        self._takes_s = takes_s

    async def fetch(self, url: str, most_bytes: int, seconds: float, _errand: object) -> bytes:
        assert (most_bytes, seconds > 0) == (100, True)
        self.seconds.append(seconds)
        return await self._come("storage", url)

    async def artifact(self, url: str, *, manifest_url: str, verify: bool, most_bytes: int) -> bytes:
        self.manifests.append((manifest_url, verify))
        return await self._come("host", url)

    async def fetch_into(self, url: str, file: int, most_bytes: int, seconds: float, _errand: object) -> int:
        return os.write(file, await self.fetch(url, most_bytes, seconds, _errand))

    async def artifact_into(self, url: str, file: int, *, manifest_url: str, most_bytes: int) -> int:
        return os.write(file, await self.artifact(url, manifest_url=manifest_url, verify=False, most_bytes=most_bytes))

    async def _come(self, channel: str, url: str) -> bytes:
        self.tried.append((channel, url))
        self._clock.now += self._takes_s
        outcome = self._has(channel, url)
        if outcome is None:
            await Promise[bytes]()
            raise AssertionError
        if isinstance(outcome, HostError):
            raise outcome
        return outcome


class Ground:
    def __init__(self, has: Callable[[str, str], Outcome], takes_s: float = 0.0) -> None:
        self.clock = Still()
        self.channels = Channels(has, self.clock, takes_s)
        self.loop = Loop(self.clock)
        self._artifacts = Artifacts(self.loop, self.channels, self.channels, lambda: 0.5)

    def fetch(self, urls: Sequence[str], **more: object) -> bytes:
        work = self._artifacts.fetch(urls, "manifest", most_bytes=100, **more)  # type: ignore[arg-type]
        fetching: Promise[bytes] = self.loop.start("fetch", work, at_once=True)
        while not fetching.done:
            self.clock.now += 0.5
            self.loop.call_later(0.0, lambda: None)
            self.loop.turn()
        return fetching.result()


DOWN = HostUnreachable("silent")


def test_directly_first() -> None:
    ground = Ground(lambda *_: b"it")
    assert ground.fetch([A, B]) == b"it"
    assert ground.channels.tried == [("storage", A)]


def test_by_the_host_then_and_at_the_next_place_after_that() -> None:
    ground = Ground(lambda channel, url: b"it" if (channel, url) == ("host", B) else DOWN)
    assert ground.fetch([A, B], manifest_url="https://m", verify=True) == b"it"
    assert ground.channels.tried == [("storage", A), ("host", A), ("storage", B), ("host", B)]
    assert ground.channels.manifests == [("https://m", True)] * 2


def test_what_came_by_the_host_is_asked_of_it_first_for_a_while() -> None:
    """Only that artifact; and when the direct way has it again, that is taken."""
    down = True
    ground = Ground(lambda channel, _: DOWN if down and channel == "storage" else b"it")
    ground.fetch([A])
    ground.channels.tried.clear()
    ground.fetch([A])
    ground.fetch([B])
    assert ground.channels.tried == [("host", A), ("storage", B), ("host", B)]
    down = False
    ground.clock.now += artifacts.REMEMBERED_S
    ground.channels.tried.clear()
    ground.fetch([A])
    ground.fetch([A])
    assert ground.channels.tried == [("storage", A)] * 2


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [(b"i", {"size": 2}), (b"its", {"size": 2}), (b"at", {"sha256": sha256_hex((b"it",)).upper()})],
)
def test_what_came_short_or_changed_is_fetched_elsewhere(wrong: bytes, expected: dict[str, object]) -> None:
    ground = Ground(lambda channel, url: b"it" if (channel, url) == ("storage", B) else wrong)
    assert ground.fetch([A, B], **expected) == b"it"
    assert len(ground.channels.tried) == 3


def test_one_error_names_every_place_and_no_query() -> None:
    refused = HostRefused(404, "GET https://a.example/m.xml (storage)")
    ground = Ground(lambda channel, _: refused if channel == "storage" else b"wrong")
    with pytest.raises(HostUnreachable) as caught:
        ground.fetch([A], size=2)
    assert str(caught.value) == (
        "manifest can't be fetched: by storage: GET https://a.example/m.xml (storage): HTTP status 404; "
        "by host: https://a.example/m.xml: 5 bytes came, 2 are expected"
    )


def test_five_minutes_are_enough() -> None:
    ground = Ground(lambda *_: DOWN, takes_s=120.0)
    with pytest.raises(HostUnreachable, match=r"300 s have gone by$"):
        ground.fetch([A, B])
    assert len(ground.channels.tried) == 3


@pytest.mark.parametrize("hanging", ["storage", "host"])
def test_a_way_that_hangs_leaves_the_other_its_turn(hanging: str) -> None:
    """Whichever it is, and though the host's way knows nothing of the time that is left."""
    ground = Ground(lambda channel, _: None if channel == hanging else DOWN)
    began = ground.clock.now
    with pytest.raises(
        HostUnreachable, match=r"fetched: (by \w+: (silent|https://a.example/m.xml: nothing within [\d.]+ s)(; |$)){2}"
    ):
        ground.fetch([A], budget_s=20.0)
    assert [channel for channel, _ in ground.channels.tried] == ["storage", "host"]
    assert ground.channels.seconds == [10.0]
    assert 10 <= ground.clock.now - began <= 23


def test_no_place_at_all() -> None:
    with pytest.raises(HostUnreachable, match=r"^manifest can't be fetched: the host names no place for it$"):
        Ground(lambda *_: b"it").fetch([])
