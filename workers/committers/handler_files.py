# SPDX-License-Identifier: Apache-2.0
"""Committer of handlers' folders below Lib.Dir: placed whole or not at all, carried over, removed.

Root who may enter any account's folder; nothing but Lib.Dir may be written. It must never follow a link, nor cross a
mount: handlers are root, and may put either anywhere at any time.
"""

import contextlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from ipc import inner_path
from ipc.channel import Channel
from ipc.descriptors import close_all, read_sealed
from ipc.digest import Sha256
from ipc.errors import BadDescriptor, CommitError
from ipc.messages import CarryOver, Entry, PlaceHandler, RemoveHandler
from workers.committers import handler_index, handler_leftovers
from workers.committers import handler_tree as tree
from workers.committers.commit import Workplace, perform
from workers.committers.handler_leftovers import KEPT, NEW, OLD, aside
from workers.runtime import Answer, Handlers, serve_once

MANIFEST = "HandlerManifest.json"
MOST_MANIFEST_BYTES = 256 * 1024
# extensions.md 1: every file gets u+x; the folders that hold settings and states are root's alone.
FOLDER_MODE, FILE_MODE, OWN = 0o755, 0o744, ("config", "status")
OWN_MODE = 0o700
SEQUENCE, STATUS = "mrseq", "status"
MOST_CARRIED_FILES, MOST_CARRIED_BYTES, MOST_CARRIED_TOGETHER = 1000, 1 << 20, 64 << 20
_PIECE_BYTES = 1 << 20
_COMING = ".carried.new"


def place(given: tuple[int, ...], request: PlaceHandler, work: Workplace) -> str:
    """Make the folder beside its place, then put it there; what was there before goes."""
    index, manifest, contents = given
    package = _Package(handler_index.read(index, request.size), contents, request.sha256, _text(manifest))
    if any("/" in name or inner_path.problem(name) for name in request.kept):
        raise CommitError("what is kept are folders right below the handler's")
    new = aside(request.folder, NEW)
    with _lib(request.lib, work) as lib:
        stays = handler_leftovers.clear(lib, request.kept)
        if tree.is_there(lib, request.folder) and tree.is_there(lib, aside(request.folder, OLD)):
            why = stays.get(request.folder, "")
            raise CommitError(f"what is kept of the former {request.folder} can't be moved: {why}")
        try:
            _make(lib, new, package)
            if tree.is_there(lib, request.folder):
                tree.rename(lib, request.folder, aside(request.folder, OLD))
        except (CommitError, OSError):
            tree.remove(lib, new)
            raise
        tree.rename(lib, new, request.folder)
        os.fsync(lib)
        try:
            left = handler_leftovers.replace(lib, request.folder, request.kept)
        except CommitError:
            raise  # as it was
        except OSError:
            work.wrote(f"{request.lib}/{request.folder}")
            raise
        work.wrote(f"{request.lib}/{request.folder}")
    left = f"of what was there {left}" if left else ""
    return _told(f"{len(package.entries)} entries, {request.size} bytes", request.folder, left, stays, work)


def carry_over(_: tuple[int, ...], request: CarryOver, work: Workplace) -> str:
    """Copy the sequence number that an extension keeps, and the plain files in its status folder."""
    with _lib(request.lib, work) as lib:
        stays = handler_leftovers.clear(lib, KEPT)
        with tree.entered(lib, request.source) as source, tree.entered(lib, request.target) as target:
            work.wrote(f"{request.lib}/{request.target}")
            copied = int(_copy(source, target, SEQUENCE, MOST_CARRIED_BYTES) is not None)
            if tree.is_folder(source, STATUS):
                copied += _copy_status(source, target)
            os.fsync(target)
    return _told(f"{copied} files carried over", "", "", stays, work)


def remove(_: tuple[int, ...], request: RemoveHandler, work: Workplace) -> str:
    """Out of sight at once, then gone; the package as other agents leave it beside the folder, too."""
    with _lib(request.lib, work) as lib:
        stays = handler_leftovers.clear(lib, KEPT)
        name, version = request.folder.rsplit("-", 1)
        there = [each for each in (f"{name}__{version}.zip", f"{request.folder}.zip") if tree.is_there(lib, each)]
        if tree.is_there(lib, request.folder) or there:
            work.wrote(request.lib)
        left = handler_leftovers.discard(lib, request.folder, request.folder)
        # What could not be moved into it is no folder to be put back.
        kept = handler_leftovers.discard(lib, aside(request.folder, OLD), request.folder)
        for package in there:
            tree.remove(lib, package)
        os.fsync(lib)
    left = left or kept
    return _told("" if left else "removed", request.folder, left, stays, work)


def _told(fact: str, folder: str, left: str, stays: dict[str, str], work: Workplace) -> str:
    """The fact, what is `left` of the folder itself, and the first of what stays of others; `work` tells all of it."""
    work.aside = handler_leftovers.asides({**stays, folder: left or stays.get(folder, "")})
    return "; ".join(filter(None, (fact, left, next(iter(stays.values()), ""))))


class _Package(NamedTuple):
    """What a folder is made of, checked but for the digest of its `contents`."""

    entries: Sequence[Entry]
    contents: int
    sha256: str
    manifest: bytes


def _make(lib: int, name: str, package: _Package) -> None:
    """The whole folder, synced; CommitError when what was written is not what was unpacked."""
    digest = Sha256()
    folders = {"": tree.make_folder(lib, name, FOLDER_MODE)}
    try:
        for entry in package.entries:
            above, _, last = entry.path.rpartition("/")
            # Sorted as they are, nothing more comes into the folders that this one is not in.
            for done in [path for path in folders if path and path != above and not above.startswith(f"{path}/")]:
                _done(folders.pop(done))
            pieces = _digested(package.contents, entry.start, entry.size or 0, digest)
            if entry.size is None:
                folders[entry.path] = tree.make_folder(folders[above], last, FOLDER_MODE)
            elif entry.path == MANIFEST:
                # The manifest that was judged is the one that stands there: as it was handed over.
                deque(pieces, maxlen=0)
            else:
                _write(folders[above], last, pieces)
        if digest.hex() != package.sha256:
            raise CommitError("what was unpacked has another SHA-256 than was told")
        _write(folders[""], MANIFEST, [package.manifest])
        for own in OWN:
            with _own_folder(folders[""], own) as folder:
                os.fchmod(folder, OWN_MODE)
                os.fsync(folder)
        for path in reversed(list(folders)):
            _done(folders.pop(path))
    finally:
        close_all(tuple(folders.values()))


def _text(manifest: int) -> bytes:
    text = read_sealed(manifest, MOST_MANIFEST_BYTES)
    if not text:
        raise CommitError(f"the package has no {MANIFEST}")
    return text


@contextlib.contextmanager
def _own_folder(top: int, name: str) -> Iterator[int]:
    if not tree.is_there(top, name):
        os.close(tree.make_folder(top, name, OWN_MODE))
    with tree.entered(top, name) as folder:
        yield folder


def _done(folder: int) -> None:
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _digested(contents: int, start: int, size: int, digest: Sha256) -> Iterator[bytes]:
    while size:
        piece = os.pread(contents, min(size, _PIECE_BYTES), start)
        if not piece:
            raise CommitError("what was unpacked is shorter than was told")
        digest.update(piece)
        yield piece
        start, size = start + len(piece), size - len(piece)


def _write(folder: int, name: str, pieces: Iterable[bytes]) -> None:
    file = os.open(name, tree.FRESH, 0o600, dir_fd=folder)
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(file, view) :]
        os.fchmod(file, FILE_MODE)
        os.fsync(file)
    except OSError as error:
        error.filename = name
        raise
    finally:
        os.close(file)


def _copy_status(source: int, target: int) -> int:
    """How many files of the one status folder came into the other."""
    copied, room = 0, MOST_CARRIED_TOGETHER
    with tree.entered(source, STATUS) as old, tree.entered(target, STATUS) as fresh:
        for name in filter(str.isprintable, tree.names(old)):
            size = _copy(old, fresh, name, min(room, MOST_CARRIED_BYTES))
            if size is not None:
                copied, room = copied + 1, room - size
            if copied == MOST_CARRIED_FILES:
                break
        os.fsync(fresh)
    return copied


def _copy(source: int, target: int, name: str, most: int) -> int | None:
    """The bytes of `name`, whose copy is in its place; None if it is no plain file, or has over `most` of them."""
    try:
        file = os.open(name, tree.PLAIN, dir_fd=source)
    except OSError:
        return None  # gone, a link, a socket: nothing that is carried over
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            return None
        content = os.pread(file, most, 0)
        tree.remove(target, _COMING)
        _write(target, _COMING, [content])
        tree.rename(target, _COMING, name)
        return len(content)
    finally:
        os.close(file)


@contextlib.contextmanager
def _lib(path: str, work: Workplace) -> Iterator[int]:
    descriptor = os.open(work.at(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _on(
    act: Callable[..., str], due: int, request: PlaceHandler | CarryOver | RemoveHandler, given: tuple[int, ...]
) -> Iterator[Answer]:
    try:
        if len(given) != due:
            raise BadDescriptor(f"{len(given)} descriptors came where {due} were due")
        yield perform(partial(act, given), request)
    finally:
        close_all(given)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    handlers: Handlers = {
        PlaceHandler: partial(_on, place, 3),
        CarryOver: partial(_on, carry_over, 0),
        RemoveHandler: partial(_on, remove, 0),
    }
    serve_once(channel, lock, handlers)
