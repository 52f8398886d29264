# SPDX-License-Identifier: Apache-2.0
"""Owns the question which modules of the tree are workers, and whether each has a policy; reads sources, runs none."""

import ast
from collections.abc import Iterable
from pathlib import Path

from policy.profile import Profile


def worker_modules(project: Path) -> list[str]:
    """Every module below `project`/workers that defines or imports a `main`: what a process can be started as."""
    found = []
    for path in sorted((project / "workers").rglob("*.py")):
        if "main" in _names(ast.parse(path.read_bytes(), str(path))):
            parts = path.relative_to(project).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def without_policy(profiles: Iterable[Profile], project: Path) -> list[str]:
    """A line for each worker module below `project` that no profile names."""
    named = {profile.module for profile in profiles}
    return [
        f"{module.replace('.', '/')}: module: a worker without a policy: no file of profiles/ has module = {module!r}"
        for module in worker_modules(project)
        if module not in named
    ]


def _names(tree: ast.Module) -> set[str]:
    """What the module's top level defines, assigns or imports."""
    names = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in aliases}
            case _:
                pass
    return names
