# SPDX-License-Identifier: Apache-2.0
"""Owns which entries of a package are taken, and as what: files and folders at paths of their own, and nothing else.

Runs in the unpacker. It must never change a name into another one that it lets pass, but for a leading `./`.
"""

import stat
from collections.abc import Iterable
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo

from ipc import inner_path
from workers.unpacker.refusal import RefusedPackage, quoted

_ENCRYPTED = 0x1 | 0x40 | 0x2000
_LOCAL_HEADER = 30
# Less is no bomb, whatever it was packed to; beyond it, deflate of what people write comes to 20 at most.
_HARMLESS_BYTES, _MOST_RATIO = 64 << 20, 100


def plan(
    entries: Iterable[ZipInfo], most_bytes: int, most_entries: int, package_bytes: int
) -> dict[str, ZipInfo | None]:
    """By path, each folder before all that is in it: the entry with a file's content; None for a folder.

    RefusedPackage names the first entry that is none of these, or one too many."""
    found: dict[str, ZipInfo | None] = {}
    total = 0
    entries = list(entries)
    for entry in entries:
        path = _path(entry)
        if not path:
            continue  # the folder that it is all unpacked into
        _add(found, path, None if entry.is_dir() else entry)
        total += entry.file_size
        if total > most_bytes:
            raise RefusedPackage(f"with {quoted(entry.filename)} it unpacks to more than {most_bytes} bytes")
        if total > max(_HARMLESS_BYTES, package_bytes * _MOST_RATIO):
            raise RefusedPackage(
                f"with {quoted(entry.filename)} it unpacks to {total} bytes, over {_MOST_RATIO} times its own size"
            )
        if len(found) > most_entries:
            raise RefusedPackage(f"with its folders it has more than {most_entries} entries")
    _check_places(entries)
    return {path: found[path] for path in sorted(found, key=lambda path: path.split("/"))}


def _path(entry: ZipInfo) -> str:
    """Where it goes, below the package's folder; empty for that folder itself."""
    name = quoted(entry.orig_filename)
    if entry.orig_filename != entry.filename:
        raise RefusedPackage(f"the name of entry {name} has a NUL in it")
    path = entry.filename.removeprefix("./")
    if entry.is_dir():
        path = path.removesuffix("/")
    problem = inner_path.problem(path) if path or not entry.is_dir() else ""
    if problem or path.startswith("./"):
        raise RefusedPackage(f"the name of entry {name} {problem or 'has a part that is a dot'}")
    _check_sort(entry, name)
    return path


def _check_sort(entry: ZipInfo, name: str) -> None:
    mode = entry.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind not in {0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG}:
        raise RefusedPackage(
            f"entry {name} is {_KINDS.get(kind, 'of a kind that nobody knows')}, and not a plain file or folder"
        )
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise RefusedPackage(f"entry {name} has a set-user-id or set-group-id bit, and no file of a package gets one")
    if entry.flag_bits & _ENCRYPTED:
        raise RefusedPackage(f"entry {name} is encrypted, and nobody has a password for it")
    if entry.is_dir() and entry.file_size:
        raise RefusedPackage(f"entry {name} is a folder with {entry.file_size} bytes of content")
    if entry.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        raise RefusedPackage(
            f"entry {name} is compressed by method {entry.compress_type}: only stored and deflated are read"
        )


_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder with the name of a file",
    stat.S_IFREG: "a file with the name of a folder",
}


def _add(found: dict[str, ZipInfo | None], path: str, entry: ZipInfo | None) -> None:
    """`path` and the folders above it."""
    if path in found and (entry is not None or found[path] is not None):
        raise RefusedPackage(f"two entries are called {quoted(path)}")
    found[path] = entry
    above = path.rpartition("/")[0]
    while above:
        if found.setdefault(above, None) is not None:
            raise RefusedPackage(f"{quoted(above)} is a file, and {quoted(path)} would lie in it")
        above = above.rpartition("/")[0]


def _check_places(entries: list[ZipInfo]) -> None:
    """No two of them may share bytes of the package: a small one could be large many times."""
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise RefusedPackage(f"entry {quoted(entry.filename)} lies within another one")
        end = entry.header_offset + _LOCAL_HEADER + entry.compress_size
