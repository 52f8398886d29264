# SPDX-License-Identifier: Apache-2.0
"""Owns mutants: our own modules with one piece of their source replaced, to see that something notices.

Runs first in the rig's processes, before anything that it changes is imported. No file is changed.
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from types import CodeType, ModuleType
from typing import NamedTuple


class Mutation(NamedTuple):
    """In `module`, the one place that reads `old` reads `new`."""

    module: str
    old: str
    new: str


def install(mutations: Iterable[Sequence[str]]) -> None:
    """Let later imports of the named modules give the mutants."""
    changes: dict[str, list[Mutation]] = {}
    for module, old, new in mutations:
        if module in sys.modules:
            raise ImportError(f"{module} is there already, it can't be changed any more")
        changes.setdefault(module, []).append(Mutation(module, old, new))
    sys.meta_path.insert(0, _Finder(changes))


class _Finder(MetaPathFinder):
    def __init__(self, changes: dict[str, list[Mutation]]) -> None:
        self._changes = changes

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._changes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        loader = _Loader(fullname, spec.origin, self._changes[fullname])
        return importlib.util.spec_from_file_location(fullname, spec.origin, loader=loader)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, changes: list[Mutation]) -> None:
        super().__init__(fullname, path)
        self._changes = changes

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(str(self.path)).decode()
        for change in self._changes:
            if source.count(change.old) != 1:
                raise ImportError(f"{fullname} has {change.old!r} {source.count(change.old)} times")
            source = source.replace(change.old, change.new)
        return compile(source, str(self.path), "exec")
