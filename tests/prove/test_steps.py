# SPDX-License-Identifier: Apache-2.0
"""Confinement with a control left out is confine() otherwise: the same mechanisms in the same order."""

import ast
from collections.abc import Iterator
from pathlib import Path

from supervisor.jail import confine
from supervisor.prove import weakened

MECHANISMS = {
    "capabilities", "group", "identity", "landlock", "lifeline", "mdwe", "mounts", "namespaces", "os", "rlimits",
    "sealed_tree", "seccomp",
}  # fmt: skip
# Where only the folder for temporary files is set, not a limit of the process.
NO_MECHANISM = {"os.umask"}


def function(module: object, name: str) -> ast.FunctionDef:
    tree = ast.parse(Path(str(vars(module)["__file__"])).read_text(encoding="utf-8"))
    return next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)


def mechanisms(node: ast.AST, module: object) -> Iterator[str]:
    """Every mechanism in the order in which the text names it; `_arrange_mounts` stands for what is in it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and child.id == "_arrange_mounts":
            yield from mechanisms(function(module, "_arrange_mounts"), module)
        elif isinstance(child, ast.Attribute):
            owner = child.value.attr if isinstance(child.value, ast.Attribute) else getattr(child.value, "id", "")
            name = f"{owner}.{child.attr}"
            if owner in MECHANISMS and name not in NO_MECHANISM:
                yield name
                continue
            yield from mechanisms(child, module)
        else:
            yield from mechanisms(child, module)


def test_both_take_the_same_steps_in_the_same_order() -> None:
    real = list(mechanisms(function(confine, "confine"), confine))
    ours = list(mechanisms(function(weakened, "_steps"), weakened))
    assert ours == real
    assert len(real) > 15


def test_a_step_that_is_missing_or_elsewhere_would_be_seen() -> None:
    real = list(mechanisms(function(confine, "confine"), confine))
    body = function(weakened, "_steps")
    for place, step in enumerate(list(body.body)):
        if not list(mechanisms(step, weakened)):
            continue
        rest = ast.Module([*body.body[:place], *body.body[place + 1 :]], [])
        assert list(mechanisms(rest, weakened)) != real
        assert list(mechanisms(ast.Module([*rest.body, step], []), weakened)) != real or step is body.body[-1]
