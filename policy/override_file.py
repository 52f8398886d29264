# SPDX-License-Identifier: Apache-2.0
"""Owns the shape of one override file (policy.d/*.toml), and its reading; applies nothing.

Used by the sealed compiler and the command line: it reads TOML, and no resident process imports it.
"""

import tomllib
from typing import Annotated, Literal, TypeVar

import msgspec

from ipc.errors import ConfigError
from ipc.handler_names import LONGEST_NAME
from ipc.messages.extension_rules import ExtensionTable
from ipc.messages.grants import WireGrant
from ipc.records import MECHANISMS
from policy import misfit
from policy.extension_rules import EXTENSIONS, RULE_FORMS, words_for
from policy.groups import CallName
from policy.level import LEVELS, Level, Mechanism
from policy.profile import Capability, PathGrant, Program, Request, Why

T = TypeVar("T")
# Where the errors say that a file is.
FOLDER = "policy.d"
# The tables of a file that are no kinds of processes.
GRANTS = "wireserver"
Hidden = Annotated[str, msgspec.Meta(pattern="^/.*[^/]$")]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all parts of an override."""


class Remove(_Part, frozen=True):
    """What is taken away, each by its name in the profile; a call from both stages, or from the locked one alone.

    A request is "Message" (every phase) or "Message in PHASE"."""

    capabilities: tuple[str, ...] = ()
    start_capabilities: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    calls: tuple[CallName, ...] = ()
    locked_calls: tuple[CallName, ...] = ()
    requests: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


class GrantedCall(_Part, frozen=True):
    """A system call, in both stages."""

    name: CallName
    why: Why


class GrantedFamily(_Part, frozen=True):
    """A family of sockets."""

    name: Literal["unix", "inet", "inet6", "netlink"]
    why: Why


class Grant(_Part, frozen=True):
    """What is given, each with its `why`: a loosening, except for a path within one that was removed."""

    capabilities: tuple[Capability, ...] = ()
    paths: tuple[PathGrant, ...] = ()
    calls: tuple[GrantedCall, ...] = ()
    requests: tuple[Request, ...] = ()
    families: tuple[GrantedFamily, ...] = ()
    runs: tuple[Program, ...] = ()


class Change(_Part, frozen=True):
    """What one file does to one kind: first `remove`, then `grant`. `limits` and `lifetime` have new values by name.

    `hide`: folders over which nothing is laid. `namespaces`: more of them made new."""

    why: Why
    remove: Remove = Remove()
    grant: Grant = Grant()
    limits: dict[str, int] = {}
    lifetime: dict[str, int | float] = {}
    hide: tuple[Hidden, ...] = ()
    namespaces: tuple[Literal["mount", "uts", "ipc", "net", "cgroup", "pid", "user"], ...] = ()


class Demands(_Part, frozen=True):
    """What one file demands of the machine, for workers of any kind."""

    min_level: Level = "basic"
    require: tuple[Mechanism, ...] = ()


class Override(msgspec.Struct, frozen=True):
    """One file: `changes` by kind; `wireserver` are grants, each of them a loosening; `extensions` rules about them."""

    demands: Demands
    changes: dict[str, Change]
    wireserver: tuple[WireGrant, ...] = ()
    extensions: tuple[ExtensionTable, ...] = ()


def read_override(name: str, content: bytes) -> Override:
    """The override in the file called `name`; ConfigError names file, key, and what was expected."""
    source = f"{FOLDER}/{name}"
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(source, f"is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(source, "is not TOML as expected: nested too deeply") from None
    demands = {key: table.pop(key) for key in Demands.__struct_fields__ if key in table}
    grants, extensions = table.pop(GRANTS, []), table.pop(EXTENSIONS, [])
    return Override(
        _demands(source, demands),
        {kind: _convert(source, f"[{kind}] ", change, Change) for kind, change in table.items()},
        _convert(source, f"[[{GRANTS}]] ", grants, tuple[WireGrant, ...]),
        _rules(source, extensions),
    )


def _demands(source: str, demands: dict[str, object]) -> Demands:
    try:
        return msgspec.convert(demands, Demands)
    except msgspec.ValidationError as error:
        words = f"min_level is one of {', '.join(LEVELS)}, require a list of {', '.join(MECHANISMS)}"
        raise ConfigError(source, f"{misfit.told(error)}: {words}") from None


def _rules(source: str, tables: object) -> tuple[ExtensionTable, ...]:
    if not isinstance(tables, list):
        return _convert(source, f"[[{EXTENSIONS}]] ", tables, tuple[ExtensionTable, ...])
    return tuple(_rule(source, place, table) for place, table in enumerate(tables, 1))


def _rule(source: str, place: int, table: object) -> ExtensionTable:
    """A fault names the rule, or where it has no usable name its place, and the words that there are."""
    try:
        return msgspec.convert(table, ExtensionTable)
    except msgspec.ValidationError as error:
        name = table.get("name") if isinstance(table, dict) else None
        is_usable = isinstance(name, str) and name.isprintable() and 0 < len(name) <= LONGEST_NAME
        where = f"name {name}" if is_usable else f"table {place}"
        words = ", ".join(words_for(misfit.place(error), str(error)))
        problem = f"{misfit.told(error, RULE_FORMS)}{f', expected one of {words}' if words else ''}"
        raise ConfigError(source, f"[[{EXTENSIONS}]] {where}: {problem}") from None


def _convert(source: str, where: str, value: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(source, f"{where}{misfit.told(error)}") from None
