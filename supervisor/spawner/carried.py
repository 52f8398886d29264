# SPDX-License-Identifier: Apache-2.0
"""Owns code that the spawner carries for its children and never runs: modules that only some of them will load.

Read in the spawner from the installation; loaded in a confined child, which can open no file any more. What is not
carried is not found here.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType
from typing import NamedTuple


class Module(NamedTuple):
    """One module's code, and the file that it is from."""

    code: CodeType
    file: str


def carry(names: Iterable[str]) -> dict[str, Module]:
    """The code of the modules `names`, none of which is run; their package is. ImportError for one that isn't there."""
    found = {}
    for name in names:
        package = import_module(name.rpartition(".")[0])
        specs = (finder.find_spec(name, package.__path__) for finder in sys.meta_path)
        loader = next((spec.loader for spec in specs if spec is not None), None)
        code = loader.get_code(name) if isinstance(loader, SourceFileLoader | SourcelessFileLoader) else None
        if code is None:
            raise ImportError(f"there is no module {name} to carry")
        found[name] = Module(code, code.co_filename)
    return found


class Carried:
    """Finds the modules that are carried, before anyone looks for files. For sys.meta_path."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self._modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The import system's question."""
        module = self._modules.get(fullname)
        if module is None:
            return None
        return ModuleSpec(fullname, _Loader(module.code), origin=module.file)  # type: ignore[arg-type]


class _Loader:
    def __init__(self, code: CodeType) -> None:
        self._code = code

    def create_module(self, _: ModuleSpec) -> None:
        """None: an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102 - what an import does
