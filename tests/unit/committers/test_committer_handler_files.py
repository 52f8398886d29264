# SPDX-License-Identifier: Apache-2.0
"""A handler's folder is placed whole or not at all, whenever the committer is killed; links lead it nowhere."""

import errno
import hashlib
import os
import signal
import stat
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from ipc.descriptors import sealed_memfd
from ipc.errors import BadDescriptor, CommitError
from ipc.messages import CarryOver, Entry, PlaceHandler, RemoveHandler
from workers.committers import handler_tree
from workers.committers.commit import Workplace
from workers.committers.handler_files import carry_over, place, remove

FOLDER, OTHER = "Vendor.Thing-1.2", "Vendor.Other-1.0"
NEW = {"HandlerManifest.json": b"[new]", "bin/run": b"#!/bin/sh\n", "bin-2": b"", "lib/a/data": bytes(3000)}
OLD = {"HandlerManifest.json": b"[old]", "bin/former": b"x"}
KEPT = {"config/HandlerState": b"Enabled", "status/0.status": b"[]", "status/deep/x": b"y"}
EFFECTS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"})


class Given:
    """What an unpacker hands over for `files`."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        folders = {path.rpartition("/")[0] for path in files} - {""}
        folders |= {path.rpartition("/")[0] for path in folders} - {""}
        paths = sorted([*files, *folders], key=lambda path: path.split("/"))
        self.entries, content = [], b""
        for path in paths:
            self.entries.append(Entry(path, len(content), len(files[path]) if path in files else None))
            content += files.get(path, b"")
        self.content, self.manifest = content, files.get("HandlerManifest.json", b"[]")
        self.index = msgspec.msgpack.encode(self.entries)

    def place(
        self, lib: Path, folder: str = FOLDER, kept: tuple[str, ...] = ("config", "status"), **more: object
    ) -> str:
        order = PlaceHandler(str(lib), folder, len(self.content), hashlib.sha256(self.content).hexdigest(), kept)
        names = ("index", "manifest", "content")
        given = tuple(sealed_memfd(name, getattr(self, name)) for name in names)
        try:
            return place(given, msgspec.structs.replace(order, **more), Workplace(Path("/"), None))
        finally:
            for descriptor in given:
                os.close(descriptor)


def removed(lib: Path, folder: str) -> str:
    return remove((), RemoveHandler(str(lib), folder), Workplace(Path("/"), None))


def files(folder: Path) -> dict[str, bytes]:
    """All plain files in it by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def package_of(folder: Path) -> dict[str, bytes]:
    return {path: content for path, content in files(folder).items() if path.split("/")[0] not in {"config", "status"}}


def fill(folder: Path, content: Mapping[str, bytes]) -> None:
    for path, text in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def lib() -> Iterator[Path]:
    """In memory: every file is synced, hundreds of times."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_modes_and_the_judged_manifest(lib: Path) -> None:
    given = Given({**NEW, "status/of-the-package": b"1"})
    given.manifest = b"[judged]"
    assert given.place(lib) == "9 entries, 3016 bytes"
    folder = lib / FOLDER
    assert files(folder) == {**NEW, "status/of-the-package": b"1", "HandlerManifest.json": b"[judged]"}
    modes = {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert {modes.pop("config"), modes.pop("status")} == {0o700}
    assert {mode for path, mode in modes.items() if (folder / path).is_dir()} == {0o755}
    assert {mode for path, mode in modes.items() if (folder / path).is_file()} == {0o744}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def killed_at(number: int) -> None:
    """This process ends before its effect of that number."""
    left = [number]

    def count(event: str, _: object) -> None:
        if event in EFFECTS:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def kill_points(lib: Path, first: int, kept: tuple[str, ...]) -> Iterator[int]:
    """Places NEW in a child that is killed before its effect `first`, the next but one … until it is not."""
    for number in range(first, 400, 2):
        child = os.fork()
        if child == 0:
            killed_at(number)
            Given(NEW).place(lib, kept=kept)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        yield number
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert number > 40
            return
    raise AssertionError("it has no end")


def test_killed_anywhere_it_is_the_former_one_or_the_new_one_whole(lib: Path) -> None:
    folder = lib / FOLDER
    fill(folder, OLD | KEPT)
    for _ in kill_points(lib, 1, ("config", "status")):
        if folder.exists():
            assert package_of(folder) in (OLD, NEW)
        # The next order, whatever it is, finishes that.
        removed(lib, OTHER)
        assert package_of(folder) in (OLD, NEW)
        assert {path: files(folder)[path] for path in KEPT} == KEPT
        assert names(lib) == [FOLDER]
        removed(lib, FOLDER)
        assert names(lib) == []
        fill(folder, OLD | KEPT)


def test_killed_anywhere_the_same_order_gives_the_same(lib: Path) -> None:
    folder = lib / FOLDER
    fill(folder, OLD | KEPT)
    for _ in kill_points(lib, 2, ("status",)):
        Given(NEW).place(lib, kept=("status",))
        assert package_of(folder) == NEW
        assert files(folder).keys() - NEW.keys() == {"status/0.status", "status/deep/x"}
        assert names(lib) == [FOLDER]
        removed(lib, FOLDER)
        fill(folder, OLD | KEPT)


BAD = {
    "climbs": [Entry("..", 0, None), Entry("../x", 0, 0)],
    "has characters that can't be printed": [Entry("a\nb", 0, 0)],
    "comes behind": [Entry("b", 0, 0), Entry("a", 0, 0)],
    "comes behind 'a'": [Entry("a", 0, 0), Entry("a", 0, 0)],
    "lies in no folder": [Entry("a", 0, 0), Entry("a/b", 0, 0)],
    "does not begin where the one before it ends": [Entry("a", 1, 0)],
    "bytes together, and": [Entry("a", 0, 5)],
}


@pytest.mark.parametrize("problem", BAD)
def test_an_index_that_is_not_in_order_is_refused(lib: Path, problem: str) -> None:
    given = Given(NEW)
    given.index = msgspec.msgpack.encode(BAD[problem])
    with pytest.raises(CommitError, match=problem):
        given.place(lib)
    assert names(lib) == []


def test_what_is_no_index_is_refused(lib: Path) -> None:
    given = Given(NEW)
    index = given.index
    for wrong in (b"", b"\x91", index + b"\0", index[:-1], msgspec.msgpack.encode([["a", 0, "0"]]), b"\x91\x94a\0\0\0"):
        given.index = wrong
        with pytest.raises(CommitError, match="the index of the package is none"):
            given.place(lib)
    given.index = bytes(30 << 20)
    with pytest.raises(BadDescriptor, match="over the limit"):
        given.place(lib)


def test_other_contents_than_were_told_leave_what_was_there(lib: Path) -> None:
    fill(lib / FOLDER, OLD | KEPT)
    given = Given(NEW)
    with pytest.raises(CommitError, match="another SHA-256"):
        given.place(lib, sha256="0" * 64)
    given.content = given.content[:-1]
    with pytest.raises(CommitError, match="shorter than was told"):
        given.place(lib, size=len(given.content) + 1)
    for kept in ("../x", "a/b", ".."):
        with pytest.raises(CommitError, match="right below the handler's"):
            Given(NEW).place(lib, kept=(kept,))
    without = Given({**NEW, "HandlerManifest.json": b""})
    with pytest.raises(CommitError, match="the package has no HandlerManifest"):
        without.place(lib)
    assert (files(lib / FOLDER), names(lib)) == (OLD | KEPT, [FOLDER])


def test_links_are_replaced_and_not_followed(lib: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    fill(elsewhere, {"mine": b"1", "config/x": b"2"})
    (lib / FOLDER).symlink_to(elsewhere)
    (lib / f".{FOLDER}.new").symlink_to(elsewhere)
    (lib / f".{FOLDER}.gone").symlink_to(elsewhere)
    Given(NEW).place(lib)
    assert package_of(lib / FOLDER) == NEW
    (lib / FOLDER / "status").rmdir()
    (lib / FOLDER / "status").symlink_to(elsewhere)
    Given(NEW).place(lib)
    assert not (lib / FOLDER / "status").is_symlink()
    (lib / FOLDER / "out").symlink_to(elsewhere)
    (lib / "Vendor.Thing__1.2.zip").write_bytes(b"x")
    assert removed(lib, FOLDER) == "removed"
    assert names(lib) == []
    assert files(elsewhere) == {"mine": b"1", "config/x": b"2"}


def test_what_goes_by_itself_or_can_not_go_is_no_failure(lib: Path) -> None:
    assert removed(lib, FOLDER) == "removed"
    deep = lib / FOLDER / "/".join(["d"] * (handler_tree.DEEPEST + 5))
    deep.mkdir(parents=True)
    fill(lib / FOLDER, OLD)
    assert "1 parts stay, the first is" in removed(lib, FOLDER)
    assert names(lib) == [f".{FOLDER}.gone"]
    # It is in nobody's way.
    for _ in range(3):
        Given(NEW).place(lib)
        removed(lib, FOLDER)
    assert names(lib) == [f".{FOLDER}.gone"]


def test_a_replacement_that_can_not_be_finished_is_taken_back(with_leftovers: Path) -> None:
    lib = with_leftovers
    assert Given(NEW).place(lib, OTHER) == "7 entries, 3015 bytes"
    assert (names(lib), files(lib / FOLDER)) == ([OTHER, FOLDER], OLD | KEPT)


def test_one_handlers_leftovers_are_no_obstacle_to_anothers(lib: Path) -> None:
    (lib / f".{FOLDER}.gone" / "/".join(["d"] * (handler_tree.DEEPEST + 5))).mkdir(parents=True)
    told = f".{FOLDER}.gone is left over: 1 parts stay, the first is "
    assert Given(NEW).place(lib, OTHER).startswith(f"7 entries, 3015 bytes; {told}")
    assert removed(lib, OTHER).startswith(f"removed; {told}")
    assert names(lib) == [f".{FOLDER}.gone"]


@pytest.fixture
def with_leftovers(lib: Path) -> Path:
    """What was to be replaced, with a plain file where its successor was."""
    fill(lib / f".{FOLDER}.old", OLD | KEPT)
    (lib / FOLDER).write_bytes(b"x")
    return lib


def test_a_folder_of_any_size_goes_in_little_memory(lib: Path) -> None:
    files = 5000
    fill(lib / FOLDER, {f"status/{number:05}{'x' * 240}": b"" for number in range(files)})
    tracemalloc.start()
    try:
        assert removed(lib, FOLDER) == "removed"
        assert tracemalloc.get_traced_memory()[1] < 100 * files
    finally:
        tracemalloc.stop()
    assert names(lib) == []


def test_what_stays_is_told_whatever_it_is_called(lib: Path) -> None:
    (lib / FOLDER / "\udcff\n" / "/".join(["d"] * handler_tree.DEEPEST)).mkdir(parents=True)
    assert removed(lib, FOLDER).encode().startswith(f"1 parts stay, the first is .{FOLDER}.gone/\\udcff\\n/d/".encode())


def test_what_is_carried_over_is_bounded(lib: Path) -> None:
    """A file of nothing but holes takes no place where it is, but where it comes."""
    old, new = lib / "Vendor.Thing-1.0", lib / FOLDER
    for folder in (old, new):
        (folder / "status").mkdir(parents=True)
    for name, size in {"mrseq": 2, "status/large": 2, **{f"status/{each}": 1 for each in range(66)}}.items():
        (old / name).touch()
        os.truncate(old / name, size << 20)
    (old / "status" / "\udcff").touch()
    assert carry_over((), CarryOver(str(lib), old.name, FOLDER), Workplace(Path("/"), None)) == "64 files carried over"
    assert sum(len(content) for content in files(new).values()) == 64 << 20
    assert not {"mrseq", "status/large"} & files(new).keys()


def test_plain_files_are_carried_over_and_nothing_else(lib: Path) -> None:
    old, new = lib / "Vendor.Thing-1.0", lib / FOLDER
    fill(old, {"mrseq": b"7", "status/1.status": b"[1]", "status/2.status": b"[2]", "status/deep/no": b""})
    (old / "status" / "link.status").symlink_to("/etc/passwd")
    os.mkfifo(old / "status" / "fifo.status")
    Given(NEW).place(lib)
    fill(new, {"status/2.status": b"former"})
    order = CarryOver(str(lib), old.name, FOLDER)
    assert carry_over((), order, Workplace(Path("/"), None)) == "3 files carried over"
    found = {path: text for path, text in files(new).items() if path not in NEW}
    assert found == {"mrseq": b"7", "status/1.status": b"[1]", "status/2.status": b"[2]"}
    with pytest.raises(OSError, match="No such file") as missing:
        carry_over((), msgspec.structs.replace(order, source=OTHER), Workplace(Path("/"), None))
    assert missing.value.errno == errno.ENOENT
