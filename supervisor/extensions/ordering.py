# SPDX-License-Identifier: Apache-2.0
"""Owns the order in which a goal state's extensions have their turns (extensions.md 3). Pure."""

from itertools import groupby
from typing import Literal

import msgspec

from ipc.messages import ExtensionSettings, Plugin

ENABLED, DISABLED, UNINSTALL = "enabled", "disabled", "uninstall"
Kind = Literal["enable", "disable", "disable-one", "uninstall"]
KINDS: dict[str, Kind] = {ENABLED: "enable", DISABLED: "disable", UNINSTALL: "uninstall"}


class Item(msgspec.Struct, frozen=True):
    """One extension's turn: `settings` is None for a handler without any. `kind` is what is wanted of it: of the whole
    handler, or, `disable-one`, of this extension of several.

    `level` orders the turns. `is_awaited`: those after it need its success."""

    plugin: Plugin
    settings: ExtensionSettings | None
    kind: Kind
    level: int
    is_awaited: bool = False

    @property
    def extension(self) -> str:
        """Its name, where the handler has several."""
        return self.settings.name if self.settings is not None and self.plugin.is_multi_config else ""

    @property
    def name(self) -> str:
        """As people call it."""
        return f"{self.plugin.name} {self.extension}".rstrip()

    @property
    def sequence_number(self) -> int | None:
        """Of its settings, None without any."""
        return self.settings.sequence_number if self.settings is not None else None

    @property
    def thumbprint(self) -> str:
        """Of the certificate that its protected settings are for."""
        return self.settings.thumbprint if self.settings is not None else ""

    @property
    def problem(self) -> str:
        """Why it can't be carried out as it stands in the goal state."""
        return self.plugin.problem or (self.settings.problem if self.settings is not None else "")


def stages(plugins: tuple[Plugin, ...]) -> list[list[Item]]:
    """All turns, in stages that follow on one another: what is removed or disabled first, the highest level foremost,
    then what is enabled, by ascending level. Within a stage nothing waits but for its own handler."""
    items = sorted((item for plugin in plugins for item in _of(plugin)), key=lambda item: item.level)
    highest = max((item.level for item in items), default=0)
    told = [msgspec.structs.replace(item, is_awaited=0 <= item.level < highest) for item in items]
    return [list(stage) for _, stage in groupby(told, key=lambda item: item.level)]


def by_handler(stage: list[Item]) -> list[list[Item]]:
    """The turns of a stage, those of one handler together: only they are one after the other."""
    found: dict[str, list[Item]] = {}
    for item in stage:
        found.setdefault(item.plugin.name, []).append(item)
    return list(found.values())


def _of(plugin: Plugin) -> list[Item]:
    kind = KINDS.get(plugin.state, "enable")
    if kind == "uninstall" or not plugin.settings:
        # However many extensions it has, it is removed once, and before what its settings depend on.
        level = max((each.dependency_level for each in plugin.settings), default=0)
        first = plugin.settings[0] if plugin.settings and not plugin.is_multi_config else None
        return [Item(plugin, first, kind, _level(level, is_on=kind == "enable"))]
    turns: list[Item] = []
    for each in plugin.settings:
        is_on = kind == "enable" and each.state == ENABLED
        own: Kind = "enable" if is_on else "disable-one" if plugin.is_multi_config else "disable"
        turns.append(Item(plugin, each, own, _level(each.dependency_level, is_on=is_on)))
    return turns


def _level(level: int, *, is_on: bool) -> int:
    return level if is_on else -level - 1
