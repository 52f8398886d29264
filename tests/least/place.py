# SPDX-License-Identifier: Apache-2.0
"""Owns the files that a scenario prepares and its job changes, in the lab: afterwards all is as it was before.

Runs in the test, outside the lab, as root. It touches nothing that it has not looked at first.
"""

import os
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

from tests.fabric.lab import Lab


class _Was(NamedTuple):
    """What was at a path: `content` by name for a folder, bytes for a file, a target for a link."""

    mode: int
    uid: int
    gid: int
    content: "dict[str, _Was] | bytes | str"


class Place:
    """One scenario's files. Paths are absolute, as the lab has them, and lead through no link."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._kept: dict[str, _Was | None] = {}
        self._last: list[tuple[str, ...]] = []

    def at(self, path: str) -> Path:
        """Where `path` is from here."""
        return self._lab.path(path)

    def run(self, *command: str) -> None:
        """A command in the lab, for what is no file."""
        self._lab.output(*command)

    def finally_run(self, *command: str) -> None:
        """A command that has to run before files are put back."""
        self._last.append(command)

    def keep(self, *paths: str) -> None:
        """What is there now is what will be there again; all of it, for a folder."""
        for path in paths:
            if path not in self._kept:
                self._kept[path] = _look(self.at(path))

    def write(self, path: str, content: bytes | str, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
        """A file in place of whatever is there; folders on the way are made."""
        self._make_way(path)
        data = content.encode() if isinstance(content, str) else content
        _put(self.at(path), _Was(stat.S_IFREG | mode, uid, gid, data))

    def folder(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """An empty folder in place of whatever is there."""
        self._make_way(path)
        _put(self.at(path), _Was(stat.S_IFDIR | mode, uid, gid, {}))

    def link(self, path: str, target: str) -> None:
        self._make_way(path)
        _put(self.at(path), _Was(stat.S_IFLNK | 0o777, 0, 0, target))

    def copy(self, source: str, path: str) -> None:
        """A file as it is at `source`."""
        was = _look(self.at(source))
        if was is None:
            raise FileNotFoundError(source)
        if isinstance(was.content, str):
            self.copy(str(Path(source).parent / was.content), path)
            return
        self._make_way(path)
        _put(self.at(path), was)

    def remove(self, *paths: str) -> None:
        self.keep(*paths)
        for path in paths:
            _clear(self.at(path))

    def restore(self) -> None:
        """Everything as it was."""
        while self._last:
            self.run(*self._last.pop())
        for path, was in reversed(self._kept.items()):
            if was is None:
                _clear(self.at(path))
            elif _look(self.at(path)) != was:
                _put(self.at(path), was)
        self._kept.clear()

    def _make_way(self, path: str) -> None:
        self.keep(path)
        parents = [str(parent) for parent in Path(path).parents]
        for parent in reversed(parents):
            if not os.path.lexists(self.at(parent)):
                self.keep(parent)
                self.at(parent).mkdir()
                self.at(parent).chmod(0o755)


def _look(path: Path) -> _Was | None:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return None
    content: dict[str, _Was] | bytes | str = b""
    if stat.S_ISLNK(facts.st_mode):
        content = str(path.readlink())
    elif stat.S_ISDIR(facts.st_mode):
        inner = {entry.name: _look(entry) for entry in path.iterdir()}
        content = {name: was for name, was in inner.items() if was is not None}
    elif stat.S_ISREG(facts.st_mode):
        content = path.read_bytes()
    return _Was(facts.st_mode, facts.st_uid, facts.st_gid, content)


def _put(path: Path, was: _Was) -> None:
    _clear(path)
    if isinstance(was.content, dict):
        path.mkdir()
        for name, inner in was.content.items():
            _put(path / name, inner)
    elif isinstance(was.content, bytes):
        path.write_bytes(was.content)
    else:
        path.symlink_to(was.content)
    os.chown(path, was.uid, was.gid, follow_symlinks=False)
    if not isinstance(was.content, str):
        path.chmod(stat.S_IMODE(was.mode))


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
