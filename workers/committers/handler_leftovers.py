# SPDX-License-Identifier: Apache-2.0
"""Owns what a killed committer of handlers' files leaves, and its end: a folder is as it was, or as it was to be.

Runs first in each of those committers; there is one at a time.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import count, islice

import msgspec

from ipc.errors import CommitError
from ipc.messages import Aside
from ipc.messages.handler_packages import HandlerFolder
from workers.committers import handler_tree as tree

# Of a folder: what is being made, what it has replaced, what is being removed.
NEW, OLD, GONE = "new", "old", "gone"
# What belongs to a handler and not to its package, where no order says it: settings and states, status.
KEPT = ("config", "status")
# So much is told of what stays: whoever is root may have made any number of such names.
MOST_TOLD, LONGEST = 16, 512


def aside(folder: str, what: str) -> str:
    """Where it lies meanwhile: hidden, and no name that anybody takes for a handler's."""
    return f".{folder}.{what}"


def clear(lib: int, kept: Sequence[str]) -> dict[str, str]:
    """Finish or take back what was begun in `lib`, whichever still can be. What can't stays aside, whatever stops it:
    one handler's is no obstacle to another's. Of that a sentence for each folder that it was, as far as there is room.
    """
    stays: dict[str, str] = {}
    for name in tree.names(lib):
        try:
            problem = _end(lib, name, kept)
        except OSError as error:
            problem = error.strerror or str(error)
        if problem and len(stays) < MOST_TOLD:
            stays.setdefault(_meant(name)[0], f"{name} is left over: {problem}")
    return stays


def asides(stays: Mapping[str, str]) -> tuple[Aside, ...]:
    """The same, to be told."""
    told = (Aside(folder, why[:LONGEST]) for folder, why in stays.items() if why)
    return tuple(islice(told, MOST_TOLD))


def _end(lib: int, name: str, kept: Sequence[str]) -> str:
    folder, what = _meant(name)
    if what == GONE:
        return tree.remove(lib, name).told()
    if what == NEW:
        return discard(lib, name, folder)
    if what == OLD and tree.is_there(lib, folder):
        try:
            return replace(lib, folder, kept)
        except CommitError:
            return ""  # the former folder is back, and nothing is left over
    if what == OLD:
        tree.rename(lib, name, folder)
    return ""


def replace(lib: int, folder: str, kept: Sequence[str]) -> str:
    """The last part of a replacement: what is kept goes from the former folder into the new one, then that is removed.
    What of it can't be, as a sentence. CommitError when what is kept can't be moved: then the former folder is back.
    """
    old = aside(folder, OLD)
    if tree.is_folder(lib, old):
        try:
            _move(lib, old, folder, kept)
        except OSError as error:
            _put_back(lib, folder, kept)
            problem = f"{error.filename or folder}: {error.strerror or error}"
            raise CommitError(f"{folder} is as it was, since what is kept of it can't be moved: {problem}") from error
    return discard(lib, old, folder)


def _move(lib: int, old: str, folder: str, kept: Sequence[str]) -> None:
    """What is kept out of `old` into `folder`."""
    with tree.entered(lib, old) as source, tree.entered(lib, folder) as target:
        for name in [name for name in kept if tree.is_folder(source, name)]:
            tree.remove(target, name)
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        os.fsync(target)


def _put_back(lib: int, folder: str, kept: Sequence[str]) -> None:
    """The former folder in its place, with all that was moved out of it; its successor goes.

    What it lacks was moved, maybe by a committer that was killed: nobody else knows of that."""
    old, new = aside(folder, OLD), aside(folder, NEW)
    if tree.is_folder(lib, folder):
        with tree.entered(lib, folder) as source, tree.entered(lib, old) as target:
            for name in [each for each in kept if tree.is_folder(source, each) and not tree.is_there(target, each)]:
                os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
            os.fsync(target)
    discard(lib, new, folder)
    tree.rename(lib, folder, new)
    tree.rename(lib, old, folder)
    os.fsync(lib)
    discard(lib, new, folder)


def discard(lib: int, name: str, folder: str) -> str:
    """Have `name`, which is or was `folder`, out of sight at once, then gone; why some of it stays, as a sentence."""
    if not tree.is_there(lib, name):
        return ""
    gone = next(
        each for each in (aside(folder, f"{GONE}{number or ''}") for number in count()) if not tree.is_there(lib, each)
    )
    tree.rename(lib, name, gone)
    return tree.remove(lib, gone).told()


def _meant(name: str) -> tuple[str, str]:
    """Which folder it was set aside for, and what it is; empty for what is none of ours."""
    folder, _, what = name[1:].rpartition(".")
    what = what.rstrip("0123456789")
    if not name.startswith(".") or what not in {NEW, OLD, GONE}:
        return "", ""
    try:
        return msgspec.convert(folder, HandlerFolder), what
    except msgspec.ValidationError:
        return "", ""
