# SPDX-License-Identifier: Apache-2.0
"""Owns what both documents about extensions have in common: what a usable handler is, its settings, times and ids.

Runs in the parser. A fault of one handler is its `problem` and spoils no other; what the handler is called, how many
there are and how long a text may be is decided here alone.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from ipc.errors import InputError
from ipc.handler_names import EXPECTED, is_handler_name
from ipc.messages import ExtensionSettings, Plugin, StatusBlob
from ipc.messages.host_documents import EARLIEST, MOST_PLUGINS, Source

STATES = ("enabled", "disabled", "uninstall")
BLOB_KINDS = ("BlockBlob", "PageBlob")
SOURCES: tuple[Source, ...] = ("Fabric", "FastTrack")
NO_ID = "00000000-0000-0000-0000-000000000000"
TWICE = "another handler of the goal state has this name already: which of both is meant nobody can tell"
# Levels only order extensions.
MOST_LEVEL = 1 << 31
MOST_SEQUENCE = 1 << 53
_EPOCH = datetime(1, 1, 1)  # without a zone, as ticks have none: both are UTC
# It becomes part of file names.
_EXTENSION = re.compile(r"[^/\x00-\x1f\x7f]{1,199}")
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,7}")
_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}")


def is_version(text: str) -> bool:
    """Whether `text` is numbers with dots between them."""
    return _VERSION.fullmatch(text) is not None


def created(ticks: str | int | None) -> str:
    """Ticks of 100 ns since the year 1 as `Created` writes it; the earliest time for what is none."""
    try:
        return f"{(_EPOCH + timedelta(microseconds=int(ticks or 0) // 10)).isoformat(timespec='microseconds')}Z"
    except (ValueError, OverflowError):
        return EARLIEST


def blob(url: str, kind: str) -> StatusBlob:
    """Where the status goes; a kind that is none is taken for BlockBlob."""
    return StatusBlob(url, kind if kind in BLOB_KINDS else "BlockBlob")


def number(text: str) -> int | None:
    """A sequence number; None for what is none."""
    found = int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else None
    return found if found is None or found < MOST_SEQUENCE else None


def level(text: str | int | None) -> int:
    """A dependency level; 0 for what is none."""
    try:
        found = int(text or 0)
    except ValueError:
        return 0
    return found if abs(found) < MOST_LEVEL else 0


def protection(settings: object, thumbprint: object) -> tuple[str, str]:
    """The thumbprint that goes with protected `settings`, empty where there are none, and what is wrong with it."""
    if not settings:
        return "", ""
    if isinstance(thumbprint, str) and _THUMBPRINT.fullmatch(thumbprint.strip()):
        return thumbprint.strip().upper(), ""
    return "", "protectedSettingsCertThumbprint is no SHA-1 in 40 hex digits: nobody could open the protected settings"


def usable(plugin: Plugin) -> Plugin:
    """`plugin`, or the same with its `problem`, shortened to what can be told of it."""
    problem = plugin.problem or _problem(plugin)
    try:
        msgspec.convert(msgspec.to_builtins(plugin), Plugin)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$.")
        problem = f"{place.rstrip('`')}: {problem}"
    if not problem:
        return replace(plugin, settings=tuple(map(_usable_settings, plugin.settings)))
    name, version, state = plugin.name[:200], plugin.version[:100], plugin.state[:100]
    return Plugin(name, version, state, plugin.is_signed, (), plugin.is_multi_config, (), problem[:1000])


def each_once(plugins: Iterable[Plugin]) -> tuple[Plugin, ...]:
    """All of them; of those that have one name, whatever the case, the first alone is without that problem."""
    found: dict[str, Plugin] = {}
    return tuple(
        plugin if found.setdefault(plugin.name.lower(), plugin) is plugin else usable(replace(plugin, problem=TWICE))
        for plugin in plugins
    )


def _problem(plugin: Plugin) -> str:
    if not is_handler_name(plugin.name):
        return f"name is none that a handler can have: {EXPECTED}"
    if not is_version(plugin.version):
        return "version is not numbers with dots between them"
    if plugin.state not in STATES:
        return f"state is none of {', '.join(STATES)}"
    names = [each.name.lower() for each in plugin.settings]
    if len(set(names)) != len(names):
        return "two of its extensions have one name"
    return ""


def _usable_settings(settings: ExtensionSettings) -> ExtensionSettings:
    if not settings.problem and settings.name and not _EXTENSION.fullmatch(settings.name):
        return replace(settings, problem="name is none that an extension can have: it becomes part of a file's name")
    return settings


def check_count(plugins: int) -> None:
    """InputError for more handlers than a VM can have."""
    if plugins > MOST_PLUGINS:
        raise InputError("Plugins", f"{plugins} handlers, more than the {MOST_PLUGINS} allowed")
