# SPDX-License-Identifier: Apache-2.0
"""Owns what lies in Lib.Dir from before: handlers of another agent that are taken over, and what is left of those that
no goal state names any more (extensions.md 2.5).

Runs in the supervisor. Nothing here runs a command of a handler.
"""

import os
import re
from collections.abc import Callable, Collection
from contextlib import suppress

from ipc.errors import AgentError
from supervisor.extension_records import MOST_NAMES, EndsForgotten, Extensions, HandlerGone, HandlerKept
from supervisor.extensions import naming
from supervisor.extensions.files import HandlerFiles, Unwritten
from supervisor.extensions.left_file import Unreadable, enter
from supervisor.extensions.ordered import Rule
from supervisor.extensions.packages import Packages
from supervisor.extensions.shown import Leftover
from supervisor.journal import Journal

INSTALLED, ENABLED, FAILED = "Installed", "Enabled", "FailedUpgrade"
LEGACY = "handler_state"
_PACKAGE = re.compile(r"(?P<handler>[A-Za-z0-9_.]+?)(__|-)(?P<version>[0-9.]+)\.zip")
MOST_BYTES = 64
# An answer has room for so many.
MOST_LEFT = 16
Say = Callable[[str, str, str], None]


class Installed:
    """What the folders say, and the journal's part of it."""

    def __init__(self, journal: Journal, files: HandlerFiles, packages: Packages, rule: Rule, say: Say) -> None:
        """`rule` rules on an operation."""
        self._journal = journal
        self._files = files
        self._packages = packages
        self._rule = rule
        self._say = say
        self._aside: list[str] = []

    @property
    def _known(self) -> Extensions:
        return self._journal.state.extensions

    def take_over(self) -> None:
        """Write down the handlers that another agent has installed, of each the newest version. StateError."""
        self._move_legacy()
        found: dict[str, dict[str, str]] = {}
        for handler, version in self._files.folders():
            state = self._files.state(naming.folder_name(handler, version))
            found.setdefault(handler, {})[version] = state
        for handler, versions in found.items():
            if handler not in self._known.handlers:
                self._take(handler, versions)

    def _take(self, handler: str, versions: dict[str, str]) -> None:
        version = naming.newest(each for each, state in versions.items() if state in {INSTALLED, ENABLED})
        failed = naming.newest(each for each, state in versions.items() if state == FAILED)
        if not version and not failed:
            return
        folder = naming.folder_name(handler, version)
        is_enabled = bool(version) and versions[version] == ENABLED
        enabled = (self._files.extensions(folder) or ("",)) if is_enabled else ()
        self._journal.append(HandlerKept(handler, version, enabled[:MOST_NAMES], failed))
        if version:
            state = "enabled" if is_enabled else "not enabled"
            self._say("info", "extensions", f"{folder} was installed by another agent, and is taken over: {state}")

    def renew_environments(self) -> None:
        """Where its folders are, for each installed handler: the configuration may say another thing than before."""
        for handler, life in self._known.handlers.items():
            if life.version:
                try:
                    self._files.begin(handler, life.version)
                except Unwritten as error:
                    self._say("warning", "extensions", str(error))

    def forget_ends(self, handler: str, extensions: Collection[str]) -> None:
        """Of a handler that has several: how it went with those that are not among `extensions`, unless they are
        enabled still."""
        life = self._known.of(handler)
        gone = tuple(name for name in life.ends if name not in extensions and name not in life.enabled)
        for at in range(0, len(gone), MOST_NAMES):
            self._journal.append(EndsForgotten(handler, gone[at : at + MOST_NAMES]))

    async def purge(self, wanted: Collection[str]) -> None:
        """Remove all handlers but those `wanted`, by their names, and of these the versions that came to nothing."""
        try:
            await self._purge(wanted)
        except OSError as error:
            self._say("warning", "extensions", f"what no goal state names any more is not removed: {error}")

    async def _purge(self, wanted: Collection[str]) -> None:
        for handler, version in self._files.folders():
            is_kept = self._is_of_use(handler, version) if handler in wanted else not self._may_go(handler, version)
            if not is_kept:
                await self._remove(handler, version)
        left = {handler for handler, _ in self._files.folders()}
        for handler in list(self._known.handlers):
            if handler not in wanted and handler not in left:
                self._journal.append(HandlerGone(handler))
        self._remove_packages({handler for handler in left if handler in wanted})
        await self._clear_aside()

    def leftovers(self) -> tuple[Leftover, ...]:
        """What was to be removed and lies aside still, as it was before whatever is being removed now."""
        if not self._packages.is_busy:
            with suppress(OSError):
                self._aside = self._files.asides()
        return tuple(
            Leftover(f"{self._files.lib}/{name}", self._packages.stays.get(naming.split_aside(name), ""))
            for name in self._aside[:MOST_LEFT]
        )

    async def _clear_aside(self) -> None:
        """Once more: whoever was in the way of that may have gone. Any order does it for all.

        A former folder in whose place there is nothing is no left-over: the next order puts it back."""
        if self._packages.is_busy:
            return
        there = {naming.folder_name(*each) for each in self._files.folders()}
        names = set(self._files.asides())
        aside = [naming.split_aside(name) for name in sorted(names)]
        folder = next((each for each in aside if each not in there and f".{each}.old" not in names), "")
        if folder:
            with suppress(AgentError):
                await self._packages.remove(folder)

    def _may_go(self, handler: str, version: str) -> bool:
        ruling = self._rule(handler, version, "uninstall")
        if not ruling.allowed:
            text = f"no goal state names {naming.folder_name(handler, version)} any more, and it stays: {ruling.why}"
            self._say("info", "extensions", text)
        return ruling.allowed

    def _is_of_use(self, handler: str, version: str) -> bool:
        life = self._known.of(handler)
        under_way = life.undertaking
        versions = {life.version, life.failed_upgrade, *(end.target for end in life.ends.values())}
        if under_way is not None:
            versions |= {under_way.source, under_way.target}
        return version in versions or self._files.state(naming.folder_name(handler, version)) in {INSTALLED, ENABLED}

    async def _remove(self, handler: str, version: str) -> None:
        folder = naming.folder_name(handler, version)
        try:
            await self._packages.remove(folder)
        except AgentError as error:
            self._say("warning", "extensions", f"{folder} is of no more use, and can't be removed: {error}")
            return
        why = self._packages.stays.get(folder, "")
        left = f", but for what can't go and lies aside: {why}" if why else ""
        self._say("warning" if why else "info", "extensions", f"{folder} was of no more use, and is removed{left}")

    def _remove_packages(self, wanted: Collection[str]) -> None:
        """Packages that an earlier agent has left, of handlers that are gone."""
        with suppress(OSError):
            for entry in os.scandir(self._files.lib):
                named = _PACKAGE.fullmatch(entry.name)
                is_left = named is not None and named["handler"] not in {*wanted, naming.AGENTS}
                if is_left and entry.is_file(follow_symlinks=False):
                    os.unlink(entry.path)

    def _move_legacy(self) -> None:
        """States as an agent of years ago has kept them: LIB/handler_state/FOLDER/state."""
        with suppress(OSError, Unreadable, Unwritten, UnicodeDecodeError):
            at = enter(self._files.lib, LEGACY)
            try:
                names = [name for name in os.listdir(at) if naming.split_folder(name) is not None]
            finally:
                os.close(at)
            for name in names:
                if not self._files.state(name):
                    self._move(name)

    def _move(self, folder: str) -> None:
        at = enter(self._files.lib, LEGACY, folder)
        try:
            file = os.open("state", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
            try:
                state = os.read(file, MOST_BYTES).decode().strip()
            finally:
                os.close(file)
            if state in {INSTALLED, ENABLED, FAILED}:
                self._files.write_state(folder, state)
        finally:
            os.close(at)
