# SPDX-License-Identifier: Apache-2.0
"""What a package may be made of: everything else is refused whole, with the entry's name."""

import hashlib
import io
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc import inner_path
from ipc.messages import Entry
from workers.unpacker.main import unpack
from workers.unpacker.refusal import RefusedPackage

MANIFEST = "HandlerManifest.json"
PLAIN = {MANIFEST: b"[{}]", "bin/run": b"#!/bin/sh\n", "lib/a/data": bytes(5000)}
Unpacked = tuple[list[Entry], bytes, bytes]


def unpacked(content: bytes, most_entries: int = 1000, most_bytes: int = 1 << 30) -> Unpacked:
    """The index, the manifest, and the contents."""
    package, contents = (os.memfd_create(name) for name in ("package", "contents"))
    try:
        os.write(package, content)
        index, manifest, digest = unpack(package, contents, most_entries, most_bytes)
        written = os.pread(contents, os.fstat(contents).st_size, 0)
        assert digest == hashlib.sha256(written).hexdigest()
        return index, manifest, written
    finally:
        os.close(package)
        os.close(contents)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, **more: int) -> bytes:
    return made(*((name, content, {}) for name, content in files.items()), method=method, **more)


def made(*entries: tuple[str, bytes, dict[str, int]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of entries: name, content, and what else its ZipInfo says."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content, facts in entries:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            for fact, value in facts.items():
                setattr(entry, fact, value)
            archive.writestr(entry, content)
    return sink.getvalue()


def of_mode(name: str, mode: int) -> bytes:
    return made((name, b"x", {"create_system": 3, "external_attr": mode << 16}))


def renamed(old: str, new: bytes, flags: int | None = None) -> bytes:
    """A zip in which an entry has another name, of the same length, in both its headers."""
    content = bytearray(zipped({old: b"x"}))
    assert len(old) == len(new)
    for mark, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        at = content.index(mark)
        if flags is not None:
            struct.pack_into("<H", content, at + offset, flags)
    return bytes(content).replace(old.encode(), new)


def in_directory(content: bytes, offset: int, form: str, value: int) -> bytes:
    """With another number in the directory's first entry."""
    changed = bytearray(content)
    struct.pack_into(form, changed, content.index(b"PK\1\2") + offset, value)
    return bytes(changed)


def two_directories() -> bytes:
    """One whole package, then another one whose end a reader finds that trusts its comment's length."""
    first, second = zipped({"first": b"1"}), zipped({"second": b"2"})
    ended = bytearray(first)
    struct.pack_into("<H", ended, len(first) - 2, len(second))
    return bytes(ended) + second


def overlapping() -> bytes:
    """Two entries in the directory, both with the content of the first."""
    content = bytearray(zipped({"a": b"x" * 100, "b": b"x" * 100}, zipfile.ZIP_STORED))
    second = content.rindex(b"PK\1\2")
    struct.pack_into("<L", content, second + 42, 10)
    return bytes(content)


def bomb() -> bytes:
    return zipped({"bomb": bytes(65 << 20)})


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "climbs": (lambda: zipped({"../x": b""}), "the name of entry '../x' climbs"),
    "climbs within": (lambda: zipped({"a/../../x": b""}), "'a/../../x' climbs"),
    "absolute": (lambda: zipped({"/etc/x": b""}), "'/etc/x' is absolute"),
    "backslash": (lambda: zipped({"a\\..\\x": b""}), "has a backslash"),
    "dots": (lambda: zipped({"a/./x": b""}), "has an empty part"),
    "empty part": (lambda: zipped({"a//x": b""}), "has an empty part"),
    "NUL": (lambda: renamed("abc", b"a\0c"), "'a\\x00c' has a NUL in it"),
    "control character": (lambda: zipped({"a\nb": b""}), "'a\\nb' has characters that can't be printed"),
    "right to left": (lambda: zipped({"a\u202eb": b""}), "'a\\u202eb' has characters"),
    "no UTF-8": (lambda: renamed("abc", b"a\xffc", 0x800), "no zip file that can be read: 'utf-8' codec"),
    "long part": (lambda: zipped({"é" * 128: b""}), "has a part of more than 255 bytes"),
    "long": (lambda: zipped({"/".join(["a" * 200] * 6): b""}), "is longer than 1024 bytes"),
    "deep": (lambda: zipped({"d/" * 32 + "x": b""}), "is more than 32 folders deep"),
    "twice": (
        lambda: zipped({"a": b"1", "b": b"2"}, zipfile.ZIP_STORED).replace(b"b", b"a"),
        "two entries are called 'a'",
    ),
    "twice by a dot": (lambda: zipped({"a": b"1", "./a": b"2"}), "two entries are called 'a'"),
    "file and folder": (lambda: zipped({"a/b": b"1", "a": b"2"}), "two entries are called 'a'"),
    "folder in a file": (lambda: zipped({"a": b"2", "a/b": b"1"}), "'a' is a file, and 'a/b' would lie in it"),
    "link": (lambda: of_mode("x", stat.S_IFLNK | 0o777), "entry 'x' is a link"),
    "device": (lambda: of_mode("x", stat.S_IFBLK | 0o600), "entry 'x' is a device"),
    "pipe": (lambda: of_mode("x", stat.S_IFIFO | 0o600), "entry 'x' is a pipe"),
    "socket": (lambda: of_mode("x", stat.S_IFSOCK | 0o600), "entry 'x' is a socket"),
    "no kind": (lambda: of_mode("x", 0o170000), "entry 'x' is of a kind that nobody knows"),
    "folder as a file": (lambda: of_mode("x", stat.S_IFDIR | 0o755), "entry 'x' is a folder with the name of a file"),
    "file as a folder": (lambda: of_mode("x/", stat.S_IFREG | 0o755), "a file with the name of a folder"),
    "folder with content": (lambda: made(("x/", b"1", {})), "entry 'x/' is a folder with 1 bytes"),
    "set-user-id": (lambda: of_mode("x", stat.S_IFREG | 0o4755), "entry 'x' has a set-user-id"),
    "set-group-id": (lambda: of_mode("x", stat.S_IFREG | 0o2755), "entry 'x' has a set-user-id"),
    "encrypted": (lambda: renamed("x", b"x", 1), "entry 'x' is encrypted"),
    "bzip2": (lambda: zipped({"x": b"1"}, zipfile.ZIP_BZIP2), "by method 12"),
    "LZMA": (lambda: zipped({"x": b"1"}, zipfile.ZIP_LZMA), "by method 14"),
    "bad CRC": (lambda: in_directory(zipped({"x": b"1"}), 16, "<L", 1), "entry 'x' can't be read: Bad CRC-32"),
    "longer than it says": (lambda: in_directory(zipped({"x": b"12"}), 24, "<L", 1), "entry 'x' can't be read"),
    "shorter than it says": (lambda: in_directory(zipped({"x": b"12"}), 24, "<L", 3), "'x' has 2 bytes, of 3"),
    "other local name": (lambda: renamed("x", b"x").replace(b"x", b"y", 1), "File name in directory 'x' and header"),
    "bomb": (bomb, "with 'bomb' it unpacks to 68157440 bytes, over 100 times its own size"),
    "overlapping": (overlapping, "lies within another one"),
    "two directories": (two_directories, "it ends in two ways"),
    "something before it": (lambda: b"#!/bin/sh\n" + zipped({"x": b"1"}), "something stands before it"),
    "something behind it": (lambda: zipped({"x": b"1"}) + b"x", "don't end as a zip file does"),
    "one of several": (lambda: zipped({"x": b"1"})[:-18] + b"\1\0" + zipped({"x": b"1"})[-16:], "part of several"),
    "nothing": (lambda: b"", "0 bytes that don't end"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_plain_files_is_refused_by_name(case: str) -> None:
    make, words = REFUSED[case]
    with pytest.raises(RefusedPackage) as refused:
        unpacked(make())
    assert words in str(refused.value)
    assert str(refused.value).isprintable()


def test_contents_index_and_manifest_of_a_plain_one() -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        index, manifest, contents = unpacked(zipped({**PLAIN, "bin-2": b"", "empty/": b""}, method))
        assert [entry.path for entry in index] == [
            MANIFEST, "bin", "bin/run", "bin-2", "empty", "lib", "lib/a", "lib/a/data",
        ]  # fmt: skip
        assert manifest == PLAIN[MANIFEST]
        found = {e.path: contents[e.start : e.start + e.size] for e in index if e.size is not None}
        assert found == {**PLAIN, "bin-2": b""}


def test_modes_that_vendors_tools_write_are_taken() -> None:
    entries = [("d/", b"", stat.S_IFDIR | 0o755), ("d/f", b"1", stat.S_IFREG | 0o644), ("./g", b"2", 0o600)]
    package = made(*((name, text, {"create_system": 3, "external_attr": mode << 16}) for name, text, mode in entries))
    assert [(entry.path, entry.size) for entry in unpacked(package)[0]] == [("d", None), ("d/f", 1), ("g", 1)]
    assert unpacked(renamed("abc", b"a\x81c"))[0][0].path == "aüc"


def test_a_zip_within_stays_a_file() -> None:
    """Also at the very end, stored, where its own end could be taken for the package's."""
    inner = zipped({"../x": b"1"})
    index, _, contents = unpacked(zipped({"z.zip": inner}, zipfile.ZIP_STORED))
    assert (contents, [entry.path for entry in index]) == (inner, ["z.zip"])


def test_the_manifest_is_the_first_of_a_walk_without_its_mark() -> None:
    deep = {f"b/{MANIFEST}": b"b", f"a/x/{MANIFEST}": b"\xef\xbb\xbfx", f"a-/{MANIFEST}": b"-"}
    assert unpacked(zipped(deep))[1] == b"x"
    assert unpacked(zipped({**deep, MANIFEST: b"top"}))[1] == b"top"
    assert unpacked(zipped({f"x{MANIFEST}": b"no"}))[1] == b""
    with pytest.raises(RefusedPackage, match="at most 262144 are read"):
        unpacked(zipped({MANIFEST: bytes((256 << 10) + 1)}))


def test_too_many_entries_and_too_many_bytes() -> None:
    many = zipped({f"{number}": b"" for number in range(30_000)}, zipfile.ZIP_STORED)
    with pytest.raises(RefusedPackage, match="it has 30000 entries, and at most 20000 are unpacked"):
        unpacked(many, 20_000)
    with pytest.raises(RefusedPackage, match="it has 3 entries, and at most 2"):
        unpacked(zipped(PLAIN), 2)
    with pytest.raises(RefusedPackage, match="with its folders it has more than 5 entries"):
        unpacked(zipped(PLAIN), 5)
    with pytest.raises(RefusedPackage, match="with 'lib/a/data' it unpacks to more than 5000 bytes"):
        unpacked(zipped(PLAIN), 1000, 5000)


def test_cut_short_at_fifty_places() -> None:
    package = zipped({**PLAIN, "noise": os.urandom(3000)})
    for place in range(50):
        with pytest.raises(RefusedPackage):
            unpacked(package[: len(package) * place // 50])


@pytest.fixture(scope="module")
def whole() -> bytes:
    return zipped({**PLAIN, "noise": os.urandom(300)}, zipfile.ZIP_STORED)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_changed_it_is_refused_or_has_good_paths(whole: bytes, data: st.DataObject) -> None:
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        index, _, _ = unpacked(bytes(changed))
    except RefusedPackage:
        return
    assert [inner_path.problem(entry.path) for entry in index] == [""] * len(index)


def test_a_disk_without_room_is_said_as_such(tmp_path: Path) -> None:
    (tmp_path / "package").write_bytes(zipped(PLAIN))
    package, contents = os.open(tmp_path / "package", os.O_RDONLY), os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(RefusedPackage, match="there is no room for what is in it: "):
            unpack(package, contents, 100, 1 << 20)
    finally:
        os.close(package)
        os.close(contents)
