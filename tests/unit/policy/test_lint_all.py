# SPDX-License-Identifier: Apache-2.0
"""Lint of a whole tree: every fault in a line of its own, with file and key; a worker without a policy above all."""

import shutil
from pathlib import Path

import pytest

from policy.compile import main as compile_main
from policy.lint_all import faults
from policy.load import own_folder
from policy.worker_modules import worker_modules

PROJECT = Path(own_folder()).parent
WORKER = '"""A worker."""\n\n\ndef main(channel, lock):\n    lock()\n'
TIGHTER = b'[parser]\nwhy = "Tighter than shipped."\n[parser.limits]\nopen_files = 32\n'
LOOSER = b'[parser]\nwhy = "Looser than shipped."\n[parser.limits]\nopen_files = 128\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what lint reads of the project."""
    for part in ("policy/calls", "policy/profiles"):
        shutil.copytree(PROJECT / part, tmp_path / part)
    for package in ("workers", "supervisor"):
        shutil.copytree(PROJECT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_this_tree_has_no_fault(tree: Path) -> None:
    assert faults(tree / "policy", {}) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("workers/disk/main.py", WORKER),
        ("workers/disk/__init__.py", WORKER),
        ("workers/committers/mount.py", "from workers.committers.sshd import main\n"),
        ("workers/committers/mount.py", "main = print\n"),
    ],
)
def test_a_worker_without_a_policy_is_refused(tree: Path, file: str, text: str) -> None:
    path = tree / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    (fault,) = faults(tree / "policy", {})
    assert fault.startswith(f"{file.removesuffix('.py').removesuffix('/__init__')}: module: a worker without a policy")
    assert compile_main(["--folder", str(tree / "policy"), "--check"]) == 1


def test_the_walk_finds_the_workers_that_there_are() -> None:
    found = worker_modules(PROJECT)
    assert {"workers.parser.main", "workers.provisioning.main", "workers.committers.sshd"} <= set(found)
    assert "workers.runtime" not in found


def test_each_file_is_told_by_itself(tree: Path) -> None:
    for name, old, new in (
        ("profiles/parser.toml", b"open_files =", b"open_flies ="),
        ("profiles/vault.toml", b"[identity]", b"[identity"),
        ("calls/lock.toml", b"why =", b"because ="),
    ):
        path = tree / "policy" / name
        path.write_bytes(path.read_bytes().replace(old, new, 1))
    found = faults(tree / "policy", {})
    assert [line.split(":")[0] for line in found] == ["calls/lock.toml", "profiles/parser.toml", "profiles/vault.toml"]
    assert "because" in found[0]
    assert "open_flies" in found[1]


def test_a_call_that_no_machine_has_is_told_with_those_who_name_it(tree: Path) -> None:
    path = tree / "policy" / "profiles" / "parser.toml"
    path.write_bytes(path.read_bytes().replace(b"names = []", b'names = ["make_tea"]', 1))
    assert "profiles/parser.toml: calls: no system call is named make_tea" in faults(tree / "policy", {})


def test_a_module_that_is_absent_and_an_old_compiled_policy(tree: Path) -> None:
    assert compile_main(["--folder", str(tree / "policy")]) == 0
    assert faults(tree / "policy", {}) == []
    (tree / "workers" / "parser" / "main.py").unlink()
    path = tree / "policy" / "calls" / "lock.toml"
    path.write_bytes(path.read_bytes() + b"# more\n")
    found = faults(tree / "policy", {})
    assert "profiles/parser.toml: there is no module workers.parser.main" in found
    assert any("does not fit its sources" in line for line in found)


def test_overrides_are_judged(tree: Path) -> None:
    assert faults(tree / "policy", {"10.toml": TIGHTER}) == []
    (looser,) = faults(tree / "policy", {"10.toml": LOOSER})
    file, _, problem = looser.partition(": ")
    assert file == "policy.d/10.toml"
    assert problem == "loosens, which takes Policy.AllowLoosening=y: parser: limits.open_files: 128 is more than 64"
    assert faults(tree / "policy", {"10.toml": LOOSER}, allow_loosening=True) == []
    wrong = {"10.toml": b"[nobody]\nwhy = 'There is no such kind.'\n", "20.toml": b"=", "30.toml": LOOSER}
    found = faults(tree / "policy", wrong)
    assert [line.split(":")[0] for line in found] == ["policy.d/10.toml", "policy.d/20.toml", "policy.d/30.toml"]
    assert found[2] == f"policy.d/30.toml: {problem}"
