# SPDX-License-Identifier: Apache-2.0
"""Holds the source to its sizes, its headers and its words; reads every file of the tree, runs nothing."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("ipc", "policy", "supervisor", "workers")
PACKAGES = (*SHIPPED, "tests")
FILE_LINES, FUNCTION_LINES, CLASS_LINES = 400, 60, 200
DOCSTRING_LINES = 8
HEADER = "# SPDX-License-Identifier: Apache-2.0"

TEXTS = ("*.py", "*.toml", "*.md", "*.sh", "*.service", "*.slice", "*.yaml", "Makefile", "run")

# Each pattern has a bracket somewhere, so that this list does not find itself.
UNWANTED = {
    "a promise left in the text": r"\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b|NotImplemented[E]rror",
    "a path of the machine it was written on": r"/wor[k]/|/far[m]/|/roo[t]/\.pyenv|/op[t]/(wheels|pypi)",
    "the history of the work instead of its result": r"\b[i]ssue #?\d|\bthis s[e]ssion\b|\bthe bri[e]f\b",
    "a shell": r"shell\s*=\s*Tru[e]|os\.syste[m]\(",
    "our own names patched": r"mock\.patc[h]|monkeypatch\.setatt[r]",
}


def sources(packages: tuple[str, ...] = PACKAGES) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def texts() -> list[Path]:
    folders = [ROOT / name for name in (*PACKAGES, "docs", "packaging", "changelog.d", ".ci")]
    below = [path for folder in folders for pattern in TEXTS for path in folder.rglob(pattern)]
    return sorted({*below, *(path for pattern in TEXTS for path in ROOT.glob(pattern))})


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def too_long(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > FUNCTION_LINES:
            yield f"line {node.lineno}: function {node.name} has {lines_of(node)} lines, at most {FUNCTION_LINES}"
        if isinstance(node, ast.ClassDef) and lines_of(node) > CLASS_LINES:
            yield f"line {node.lineno}: class {node.name} has {lines_of(node)} lines, at most {CLASS_LINES}"


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_source_file_is_small_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.startswith(HEADER + "\n"), f"opens with {HEADER!r}"
    docstring = ast.get_docstring(tree)
    assert docstring, "the SPDX line is followed by a docstring: what it owns, which process, what it must never do"
    assert docstring.count("\n") < max(DOCSTRING_LINES, docstring.count("+--") + DOCSTRING_LINES)
    assert text.count("\n") <= FILE_LINES, f"at most {FILE_LINES} lines: look for the second idea in it"
    assert not list(too_long(tree))


@pytest.mark.parametrize("what", UNWANTED)
def test_no_file_has(what: str) -> None:
    pattern = re.compile(UNWANTED[what])
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:100]}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_walk_sees_the_tree() -> None:
    """A walk that found nothing would let everything pass."""
    seen = {name_of(path) for path in (*sources(), *texts())}
    assert {"ipc/codec.py", "supervisor/loop.py", "Makefile", "pyproject.toml", ".ci/run"} <= seen


def test_broad_excepts_stand_in_two_files_only() -> None:
    """Of what is shipped; in tests ruff allows one that cleans up and raises again."""
    found = {
        name_of(path)
        for path in sources(SHIPPED)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    }
    assert found <= {"supervisor/loop.py", "workers/runtime.py"}


def test_a_test_waits_for_a_condition_and_never_just_sleeps() -> None:
    tests = [path for path in sources(("tests",)) if path.name.startswith(("test_", "conftest"))]
    assert [name_of(path) for path in tests if re.search(r"time\.slee[p]\(", path.read_text("utf-8"))] == []


def is_broad(handler: ast.ExceptHandler) -> bool:
    names = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(name is None or getattr(name, "id", "") in {"Exception", "BaseException"} for name in names)
