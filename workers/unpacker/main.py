# SPDX-License-Identifier: Apache-2.0
"""Unpacks one package: contents into the file that it is handed, an index and the manifest's text into sealed memfds.

Runs in the unpacker: own uid, no file but those two descriptors, no socket but its own. It writes nothing anywhere
else, and what it answers is believed by nobody: who makes files of it checks every path again.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from zipfile import BadZipFile, ZipFile, ZipInfo

import msgspec

from ipc.channel import Channel
from ipc.descriptors import close_all, sealed_memfd
from ipc.digest import Sha256
from ipc.errors import BadDescriptor
from ipc.messages import Entry, PackageRefused, PackageUnpacked, UnpackPackage
from workers.runtime import TEXT_LIMIT, Answer, serve_once
from workers.unpacker import directory, names
from workers.unpacker.refusal import RefusedPackage, quoted

MANIFEST = "HandlerManifest.json"
MOST_MANIFEST_BYTES = 256 * 1024
_PIECE_BYTES = 1 << 20
# extensions.md 1: it is taken off.
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# All that the standard library's reader raises over a file that is not as it should be.
_BROKEN = (BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OSError)
# Names are in one of these; from the lock on no module can be loaded any more.
"".encode("cp437")


def unpack(package: int, contents: int, most_entries: int, most_bytes: int) -> tuple[list[Entry], bytes, str]:
    """The index of what `contents` holds afterwards, the manifest's text, and the SHA-256 of `contents` in hex.

    RefusedPackage where anything of the package is not as it should be."""
    count = directory.check(package, most_entries)
    try:
        with os.fdopen(package, "rb", closefd=False) as file, ZipFile(file) as archive:
            if len(archive.infolist()) != count:
                raise RefusedPackage(f"it says that it has {count} entries, and has {len(archive.infolist())}")
            planned = names.plan(archive.infolist(), most_bytes, most_entries, os.fstat(package).st_size)
            return _write(archive, planned, contents)
    except _BROKEN as error:
        raise RefusedPackage(f"no zip file that can be read: {_reason(error)}") from None


def _write(archive: ZipFile, planned: Mapping[str, ZipInfo | None], contents: int) -> tuple[list[Entry], bytes, str]:
    index, at, digest = [], 0, Sha256()
    manifest, text = _manifest(planned), b""
    for path, info in planned.items():
        if info is None:
            index.append(Entry(path, at, None))
            continue
        size = 0
        for piece in _pieces(archive, info):
            digest.update(piece)
            _put(contents, piece, at + size)
            size += len(piece)
            if path == manifest:
                text += piece
        if size != info.file_size:
            raise RefusedPackage(f"entry {quoted(path)} has {size} bytes, of {info.file_size} that it says")
        index.append(Entry(path, at, size))
        at += size
    return index, text.removeprefix(_BYTE_ORDER_MARK), digest.hex()


def _pieces(archive: ZipFile, info: ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(info) as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except _BROKEN as error:
        raise RefusedPackage(f"entry {quoted(info.filename)} can't be read: {_reason(error)}") from None


def _manifest(planned: Mapping[str, ZipInfo | None]) -> str:
    """The path of the first manifest of a walk through sorted folders, each before what is in it; empty without one."""
    found = [path for path, info in planned.items() if info is not None and path.rpartition("/")[2] == MANIFEST]
    if not found:
        return ""
    path = min(found, key=lambda path: path.split("/")[:-1])
    info = planned[path]
    if info is not None and info.file_size > MOST_MANIFEST_BYTES:
        raise RefusedPackage(f"its {path} has {info.file_size} bytes, and at most {MOST_MANIFEST_BYTES} are read")
    return path


def _put(file: int, piece: bytes, at: int) -> None:
    view = memoryview(piece)
    try:
        while view:
            written = os.pwrite(file, view, at)
            view, at = view[written:], at + written
    except OSError as error:
        raise RefusedPackage(f"there is no room for what is in it: {error.strerror}") from None


def _reason(error: Exception) -> str:
    return (str(error).partition("\n")[0] or type(error).__name__)[:200]


def on_unpack(request: UnpackPackage, descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """The handler of the one request."""
    try:
        if len(descriptors) != 2:
            raise BadDescriptor(f"{len(descriptors)} descriptors came where a package and an empty file were due")
        index, manifest, digest = unpack(*descriptors, request.most_entries, request.most_bytes)
    except RefusedPackage as refused:
        yield PackageRefused(str(refused)[:TEXT_LIMIT])
        return
    finally:
        close_all(descriptors)
    size = sum(entry.size or 0 for entry in index)
    files = sealed_memfd("index", msgspec.msgpack.encode(index)), sealed_memfd("manifest", manifest)
    yield PackageUnpacked(len(index), size, digest), files


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve_once(channel, lock, {UnpackPackage: on_unpack})
