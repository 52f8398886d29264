# SPDX-License-Identifier: Apache-2.0
"""Owns the small files that the agent writes for a handler: its environment, settings, states (extensions.md 1 and 5).

Runs in the supervisor. A handler is root and may have put anything there: no step follows a link, and a folder that was
replaced by one is told and left alone.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from ipc.errors import AgentError
from supervisor.extensions import naming
from supervisor.extensions.left_file import Unreadable, enter
from supervisor.goal_state.adopted import HandlerStatus

CONFIG, STATUS, EVENTS = "config", "status", "events"
ENVIRONMENT, HEARTBEAT = "HandlerEnvironment.json", "heartbeat.log"
STATE, TOLD = "HandlerState", "HandlerStatus"
PRIVATE, OPEN, FILE = 0o700, 0o755, 0o600
# A folder of a handler's is not looked through any further: it may have put any number of names there.
MOST_LOOKED_AT = 5_000
# Everything that is the agent's own to write is small; a state that is longer is none.
MOST_STATE_BYTES = 64


class Unwritten(AgentError):
    """A handler's file can't be written or removed: which, and why."""


class HandlerFiles:
    """Below `lib`, and in the folders of logs below `logs`; `say` is told what can't be done and is not needed."""

    def __init__(self, lib: str, logs: str, say: Callable[[str], None]) -> None:
        self.lib = lib
        self.logs = logs
        self._say = say

    def base(self, handler: str, version: str) -> str:
        """The handler's folder, as it is told of it."""
        return f"{self.lib}/{naming.folder_name(handler, version)}"

    def begin(self, handler: str, version: str) -> None:
        """What a handler finds before its first command: folders, and where they are. Unwritten."""
        folder = naming.folder_name(handler, version)
        for name in (CONFIG, STATUS):
            self._make(self.lib, (folder,), name, PRIVATE)
        # Who may read logs is theirs to say who keep them: a folder that is there stays as it is.
        above, _, name = self.logs.rpartition("/")
        self._make(above or "/", (), name, OPEN)
        self._make(self.logs, (), handler, OPEN)
        self._make(self.logs, (handler,), EVENTS, PRIVATE)
        base, log = self.base(handler, version), f"{self.logs}/{handler}"
        places = {
            "logFolder": log,
            "configFolder": f"{base}/{CONFIG}",
            "statusFolder": f"{base}/{STATUS}",
            "heartbeatFile": f"{base}/{HEARTBEAT}",
            "eventsFolder": f"{log}/{EVENTS}",
            "eventsFolder_preview": f"{log}/{EVENTS}",
        }
        told = [{"name": handler, "version": 1.0, "handlerEnvironment": places}]
        self._write((folder,), ENVIRONMENT, msgspec.json.encode(told))

    def write_settings(self, folder: str, extension: str, sequence_number: int | None, content: bytes) -> None:
        """The settings of one extension; empty where it has none. Unwritten."""
        self._write((folder, CONFIG), naming.settings_file(extension, sequence_number), content)

    def write_state(self, folder: str, state: str, extension: str = "") -> None:
        """HandlerState, or that of one extension of several. Unwritten."""
        self._write((folder, CONFIG), f"{extension}.{STATE}" if extension else STATE, state.encode())

    def note_state(self, folder: str, state: str, extension: str = "") -> None:
        """The same, for others to read: the journal is what counts, so that what stands in the way is only told."""
        try:
            self.write_state(folder, state, extension)
        except Unwritten as error:
            self._say(str(error))

    def write_told(self, folder: str, status: HandlerStatus, *, has_several: bool) -> None:
        """HandlerStatus: what the host is told, for others to read. Unwritten."""
        told = {
            "name": status.name,
            "version": status.version,
            "status": status.status,
            "code": status.code,
            "message": status.message,
            "supports_multi_config": has_several,
            "extension_status": None,
        }
        self._write((folder, CONFIG), TOLD, msgspec.json.encode(told))

    def write_status(
        self, folder: str, extension: str, sequence_number: int | None, content: bytes, *, if_absent: bool = False
    ) -> None:
        """A status file in an extension's place; with `if_absent` only where it has written none. Unwritten."""
        name = naming.status_file(extension, sequence_number)
        with self._at(folder, STATUS) as (at, path):
            if not if_absent or not _exists(at, name):
                _put(at, path, name, content)

    def drop(self, folder: str, extension: str) -> None:
        """Remove settings, status and state of one extension of several. What can't go is told, and stays."""
        for name, endings in ((CONFIG, (".settings", f".{STATE}")), (STATUS, (".status",))):
            with self._told(), self._at(folder, name) as (at, path):
                self._drop(at, path, extension, endings)

    def state(self, folder: str) -> str:
        """What HandlerState says; empty where there is none to be read."""
        with suppress(OSError, Unreadable, UnicodeDecodeError):
            return self._read(folder, STATE).strip()
        return ""

    def extensions(self, folder: str) -> tuple[str, ...]:
        """The extensions that are enabled by their own states, of a handler that has several."""
        found = []
        with suppress(OSError, Unreadable, UnicodeDecodeError):
            at = enter(self.lib, folder, CONFIG)
            try:
                names = sorted(self._names(at, f"{self.lib}/{folder}/{CONFIG}", f".{STATE}"))
            finally:
                os.close(at)
            ending = f".{STATE}"
            named = [name.removesuffix(ending) for name in names]
            found = [
                name
                for name in named
                if name and not naming.problem_of_extension(name) and self._read(folder, f"{name}{ending}") == "enabled"
            ]
        return tuple(found)

    def folders(self) -> list[tuple[str, str]]:
        """Handlers and versions that have a folder. OSError: what can't be looked at is not gone."""
        found = []
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.lib):
                named = naming.split_folder(entry.name)
                if named is not None and entry.is_dir(follow_symlinks=False):
                    found.append(named)
        return sorted(found)

    def asides(self) -> list[str]:
        """The names of what lies aside there, until it is gone. OSError."""
        return sorted(name for name in os.listdir(self.lib) if naming.split_aside(name))

    def _drop(self, at: int, path: str, extension: str, endings: tuple[str, ...]) -> None:
        for file in self._names(at, path):
            if _is_of(file, extension, endings):
                with self._told():
                    _unlink(at, path, file)

    def _names(self, at: int, path: str, ending: str = "") -> Iterator[str]:
        """Of the files in there that end so, as far as they are looked at."""
        with os.scandir(at) as entries:
            for number, entry in enumerate(entries):
                if number == MOST_LOOKED_AT:
                    self._say(f"{path} has more than {MOST_LOOKED_AT} names: what is the agent's among the rest stays")
                    return
                if entry.name.endswith(ending):
                    yield entry.name

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What can't be removed in there is told."""
        try:
            yield
        except Unwritten as error:
            self._say(str(error))

    def _read(self, folder: str, name: str) -> str:
        at = enter(self.lib, folder, CONFIG)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            file = os.open(name, flags, dir_fd=at)
        finally:
            os.close(at)
        try:
            return os.read(file, MOST_STATE_BYTES).decode() if stat.S_ISREG(os.fstat(file).st_mode) else ""
        finally:
            os.close(file)

    def _write(self, steps: tuple[str, ...], name: str, content: bytes) -> None:
        with self._at(*steps) as (at, path):
            _put(at, path, name, content)

    def _make(self, root: str, steps: tuple[str, ...], name: str, mode: int) -> None:
        with self._at(*steps, root=root) as (at, path):
            try:
                os.mkdir(name, mode, dir_fd=at)
                is_new = True
            except FileExistsError:
                is_new = False
            except OSError as error:
                raise Unwritten(f"{path}/{name} can't be made: {error.strerror}") from None
        with self._at(*steps, name, root=root) as (at, _):
            if is_new:
                os.fchmod(at, mode)  # whatever the umask

    @contextmanager
    def _at(self, *steps: str, root: str = "") -> Iterator[tuple[int, str]]:
        """The folder that is reached by `steps`, and its name for people."""
        path = "/".join((root.rstrip("/") if root else self.lib, *steps))
        try:
            at = enter(root or self.lib, *steps)
        except (OSError, Unreadable) as error:
            problem = error.strerror if isinstance(error, OSError) else str(error)
            raise Unwritten(f"{path} can't be entered: {problem}") from None
        try:
            yield at, path
        finally:
            os.close(at)


def _exists(at: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except OSError:
        return False
    return True


def _is_of(file: str, extension: str, endings: tuple[str, ...]) -> bool:
    """Whether the file is the extension's: EXTENSION.NUMBER.settings, EXTENSION.HandlerState and their like."""
    for ending in endings:
        if file.startswith(f"{extension}.") and file.endswith(ending):
            between = file[len(extension) + 1 : -len(ending)] if len(file) > len(extension) + len(ending) else ""
            if not between or between.isdecimal():
                return True
    return False


def _unlink(at: int, path: str, name: str) -> None:
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unwritten(f"{path}/{name} can't be removed: {error.strerror}") from None


def _put(at: int, path: str, name: str, content: bytes) -> None:
    """Whole or not at all, root's alone, whatever stands there by that name."""
    new = f".{name}.new"
    try:
        with suppress(FileNotFoundError):
            os.unlink(new, dir_fd=at)
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE, dir_fd=at)
        try:
            _write_all(file, content)
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(new, name, src_dir_fd=at, dst_dir_fd=at)
    except OSError as error:
        raise Unwritten(f"{path}/{name} can't be written: {error.strerror}") from None


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
