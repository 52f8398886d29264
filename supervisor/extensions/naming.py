# SPDX-License-Identifier: Apache-2.0
"""Owns names: a handler's folder, its versions and how they compare, its files in there (extensions.md 1). Pure."""

import re
from collections.abc import Iterable

from ipc.handler_names import EXPECTED, LONGEST_NAME, is_handler_name
from ipc.messages.extension_documents import Version
from ipc.messages.handler_packages import HandlerFolder

_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,3}")
# An extension's name becomes a file's.
_EXTENSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]*")
LONGEST_EXTENSION = 128
# As the committer of handlers' folders calls what it has replaced, or removes.
_ASIDE = frozenset({"old", "gone"})
# Their folders look like a handler's.
AGENTS = "WALinuxAgent"


def problem_of_name(handler: str) -> str:
    """Why no folder can be called so; empty if one can."""
    if handler == AGENTS:
        return "its folder would be taken for an agent's"
    if not is_handler_name(handler):
        return f"{handler[:LONGEST_NAME]!r} is no handler's name: {EXPECTED}"
    return ""


def problem_of_extension(extension: str) -> str:
    """Why no file can be called so; empty if one can, or if there is no name."""
    if extension and (len(extension) > LONGEST_EXTENSION or not _EXTENSION.fullmatch(extension)):
        return f"{extension[:LONGEST_EXTENSION]!r} can't be an extension's name: files are called by it"
    return ""


def is_version(text: str) -> bool:
    """Whether it is up to four numbers with dots between them."""
    return _VERSION.fullmatch(text) is not None


def folder_name(handler: str, version: Version) -> HandlerFolder:
    """The handler's folder below Lib.Dir."""
    return f"{handler}-{version}"


def split_folder(name: str) -> tuple[str, str] | None:
    """Handler and version of such a folder's name; None if it is none's, or an agent's."""
    handler, _, version = name.rpartition("-")
    return (handler, version) if not problem_of_name(handler) and is_version(version) else None


def split_aside(name: str) -> str:
    """Which folder lies aside by such a name, until it is gone; empty if none does."""
    folder, _, what = name[1:].rpartition(".")
    is_aside = name.startswith(".") and what.rstrip("0123456789") in _ASIDE
    return folder if is_aside and split_folder(folder) is not None else ""


def version_key(version: Version) -> tuple[int, ...]:
    """By which versions compare: zeros at the end count nothing, 1.2 is 1.2.0.0."""
    parts = [int(part) for part in version.split(".")]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


def is_same(one: Version, other: Version) -> bool:
    """Whether they are the same version, or both none."""
    return one == other or (bool(one and other) and version_key(one) == version_key(other))


def newest(versions: Iterable[Version]) -> Version:
    """The highest of them; empty without any."""
    return max(versions, key=version_key, default="")


def is_complete(version: Version) -> bool:
    """Whether no other can match it: a wanted 1.2 is met by 1.2.5, too, a wanted 1.2.0.0 by itself alone."""
    return version.count(".") == 3


def settings_file(extension: str, sequence_number: int | None) -> str:
    """Of one extension's settings, in the folder config; without settings there is an empty one."""
    return _numbered(extension, sequence_number, "settings")


def status_file(extension: str, sequence_number: int | None) -> str:
    """In which the extension tells its status, in the folder status."""
    return _numbered(extension, sequence_number, "status")


def _numbered(extension: str, sequence_number: int | None, ending: str) -> str:
    return f"{f'{extension}.' if extension else ''}{sequence_number or 0}.{ending}"
