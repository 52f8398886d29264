# SPDX-License-Identifier: Apache-2.0
"""Owns what an unpacker says that a package holds, and whether that is believed: every path and number is checked anew.

Runs in the committer of handlers' files.
"""

from collections.abc import Iterator, Sequence

import msgspec

from ipc import inner_path
from ipc.descriptors import read_sealed
from ipc.errors import CommitError
from ipc.messages import Entry
from ipc.messages.handler_packages import MOST_ENTRIES

# Every entry with the longest path, and its numbers.
MOST_INDEX_BYTES = MOST_ENTRIES * (inner_path.MOST_BYTES + 32)


def read(descriptor: int, size: int) -> Sequence[Entry]:
    """The index in a sealed memfd, whose files have `size` bytes together. CommitError for any that is not in order."""
    content = read_sealed(descriptor, MOST_INDEX_BYTES)
    try:
        entries: list[Entry] = msgspec.msgpack.decode(content, type=list[Entry], strict=True)
    except msgspec.DecodeError as error:
        raise CommitError(f"the index of the package is none: {str(error)[:200]}") from None
    if len(entries) > MOST_ENTRIES:
        raise CommitError(f"the index has {len(entries)} entries, over the limit of {MOST_ENTRIES}")
    for problem in _problems(entries, size):
        raise CommitError(f"the index of the package is refused: {problem}")
    return entries


def _problems(entries: Sequence[Entry], size: int) -> Iterator[str]:
    folders, last, at = {""}, "", 0
    for entry in entries:
        problem = inner_path.problem(entry.path)
        if problem:
            yield f"the path {entry.path[:120]!a} {problem}"
        if entry.path.split("/") <= last.split("/"):
            yield f"{entry.path[:120]!a} comes behind {last[:120]!a}"
        if entry.path.rpartition("/")[0] not in folders:
            yield f"{entry.path[:120]!a} lies in no folder of the package"
        if entry.start != at:
            yield f"{entry.path[:120]!a} does not begin where the one before it ends"
        if entry.size is None:
            folders.add(entry.path)
        last, at = entry.path, at + (entry.size or 0)
    if at != size:
        yield f"its files have {at} bytes together, and {size} were told"
