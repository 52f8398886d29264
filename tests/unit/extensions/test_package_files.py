# SPDX-License-Identifier: Apache-2.0
"""Packages on their way: each try in a file of its own without a name, which nobody can write to once it is read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ipc.errors import HostUnreachable, StateError
from supervisor.artifacts import Artifacts, Use
from supervisor.clock import SystemClock
from supervisor.extensions.nameless import Nameless, unlinked
from supervisor.loop import Loop, Promise
from tests.unit.wire.turning import finish

A, B = "https://a.example/p.zip?sig=secret", "https://b.example/p.zip?sig=secret"
DOWN = HostUnreachable("silent")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Ways:
    """Both ways to storage. `has` gives what comes of a URL by one; `hold`: its writer lives on for a moment."""

    def __init__(self, has: Callable[[str, str], bytes], loop: Loop) -> None:
        self.tried: list[tuple[str, str]] = []
        self.held: list[int] = []
        self.hold = False
        self._has = has
        self._loop = loop

    async def fetch_into(self, url: str, file: int, most_bytes: int, seconds: float, _errand: object) -> int:
        return self._come("storage", url, file)

    async def artifact_into(self, url: str, file: int, *, manifest_url: str, most_bytes: int) -> int:
        assert manifest_url == "https://m"
        return self._come("host", url, file)

    def _come(self, channel: str, url: str, file: int) -> int:
        self.tried.append((channel, url))
        content = self._has(channel, url)
        if not content:
            raise DOWN
        # As another process would have it.
        writer = os.open(f"/proc/self/fd/{file}", os.O_RDWR)
        os.write(writer, content + b"left over")
        if self.hold:
            self.held.append(writer)
        else:
            os.close(writer)
        return len(content)


class Ground:
    def __init__(self, folder: Path, has: Callable[[str, str], bytes]) -> None:
        self.folder = folder
        self.loop = Loop(SystemClock())
        self.ways = Ways(has, self.loop)
        self.seen: list[bytes] = []
        self._artifacts = Artifacts(self.loop, self.ways, self.ways, lambda: 0.5)  # type: ignore[arg-type]

    def fetch(self, good: bytes = b"good") -> None:
        work = self._artifacts.fetch_file(
            [A, B],
            "package",
            lambda: Nameless(str(self.folder)),
            self._use(good),
            most_bytes=100,
            manifest_url="https://m",
        )
        fetching: Promise[None] = self.loop.start("fetch", work, at_once=True)
        finish(self.loop, fetching)

    def _use(self, good: bytes) -> Use:
        async def use(file: int) -> str:
            self.seen.append(os.pread(file, 100, 0))
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(file, b"x")
            assert names(self.folder) == []
            return "" if self.seen[-1] == good else "it is none"

        return use


def test_what_is_no_good_is_fetched_elsewhere_into_another_file(tmp_path: Path) -> None:
    there = {("storage", A): b"short", ("host", A): b"", ("storage", B): b"a longer one", ("host", B): b"good"}
    ground = Ground(tmp_path, lambda channel, url: there[channel, url])
    before = names(Path("/proc/self/fd"))
    ground.fetch()
    assert ground.ways.tried == list(there)
    assert ground.seen == [b"short", b"a longer one", b"good"]
    ground.ways.tried.clear()
    with pytest.raises(HostUnreachable) as caught:
        ground.fetch(b"another")
    # What came by the host the last time is asked of it first.
    assert ground.ways.tried == [("storage", A), ("host", A), ("host", B), ("storage", B)]
    assert "by storage: https://a.example/p.zip: it is none; by host: silent; by host: https://b.ex" in str(
        caught.value
    )
    assert "secret" not in str(caught.value)
    assert names(Path("/proc/self/fd")) == before


def test_it_is_read_when_nobody_can_write_any_more(tmp_path: Path) -> None:
    """The last writer may still be about to die; what it does until then comes before anybody reads."""
    ground = Ground(tmp_path, lambda *_: b"good")
    ground.ways.hold = True

    def die() -> None:
        assert ground.seen == []
        os.pwrite(ground.ways.held[0], b"evil", 0)
        os.close(ground.ways.held.pop())

    ground.loop.call_later(0.05, die)
    ground.fetch(b"evil")
    assert ground.seen == [b"evil"]


def test_one_that_is_written_for_ever_is_not_read(tmp_path: Path) -> None:
    class Fast(SystemClock):
        def monotonic(self) -> float:
            return super().monotonic() * 1000

    file, loop = Nameless(str(tmp_path)), Loop(Fast())
    writer = os.open(f"/proc/self/fd/{file.writable}", os.O_WRONLY)
    with pytest.raises(StateError, match="still being written after 10 s"):
        finish(loop, loop.start("settle", file.settle(loop, 0)))
    os.close(writer)
    file.close()
    short = Nameless(str(tmp_path))
    with pytest.raises(StateError, match="less than the 5 bytes"):
        finish(loop, loop.start("settle", short.settle(loop, 5)))
    short.close()


def test_a_file_that_loses_its_name_at_once(tmp_path: Path) -> None:
    (tmp_path / ".nameless").write_bytes(b"of one that was killed")
    file = unlinked(str(tmp_path))
    assert (names(tmp_path), os.fstat(file).st_nlink, os.fstat(file).st_mode & 0o777) == ([], 0, 0o600)
    os.close(file)
    with pytest.raises(StateError, match="no file can be made in /nowhere"):
        Nameless("/nowhere")
