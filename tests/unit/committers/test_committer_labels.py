# SPDX-License-Identifier: Apache-2.0
"""The labels committer with a stand-in for restorecon, which is told exactly the paths, and to mind no missing one."""

from pathlib import Path

import pytest

from ipc.errors import CommitError
from ipc.messages import CommitLabels
from tests.unit.committers.programs_here import FOLDERS, perform, tools_in
from workers.committers.labels import AT_A_TIME, label
from workers.committers.tools import Tools


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for path in ("etc/skel/.config/deep", "home/me/.config"):
        (root / path).mkdir(parents=True)
    for path in ("etc/skel/.bashrc", "etc/skel/.config/deep/file", "home/me/.bashrc", "home/me/own", "etc/shadow"):
        (root / path).touch()
    (root / "etc/link").symlink_to("/nowhere")
    return root


def restorecon(folder: Path, script: str) -> Tools:
    """The usual programs, with this restorecon before them; its list of arguments, a line each, goes to `told`."""
    (folder / "restorecon").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{folder}/told\n{script}\n')
    (folder / "restorecon").chmod(0o755)
    return tools_in((str(folder), *FOLDERS))


def test_what_was_written_is_labelled_and_a_home_with_what_it_was_given(root: Path, tmp_path: Path) -> None:
    order = CommitLabels(("/etc/shadow", "/etc/none", "/etc/link", "/etc/shadow"), ("/home/me",))
    committed = perform(label, order, root, restorecon(tmp_path, ""))
    assert committed.fact == "of 8 paths, all that are there have the labels that the system's policy names"
    skeleton = (".bashrc", ".config", ".config/deep", ".config/deep/file")
    named = ["/etc/shadow", "/etc/none", "/etc/link", "/home/me", *(f"/home/me/{path}" for path in skeleton)]
    assert (tmp_path / "told").read_text().splitlines() == ["-i", "-F", "--", *(f"{root}{path}" for path in named)]
    assert committed.changes == ()


def test_many_paths_are_labelled_some_at_a_time(root: Path, tmp_path: Path) -> None:
    paths = tuple(f"/home/me/{number}" for number in range(AT_A_TIME + 1))
    for path in paths:
        (root / path.lstrip("/")).touch()
    perform(label, CommitLabels(paths), root, restorecon(tmp_path, ""))
    told = (tmp_path / "told").read_text().splitlines()
    assert told.count("-F") == 2
    assert [line for line in told if line.startswith("/")] == [f"{root}{path}" for path in paths]


def test_a_restorecon_that_fails_is_a_failure_and_one_that_is_missing_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(CommitError, match="restorecon ended with status 1: no such label"):
        perform(label, CommitLabels(("/etc/shadow",)), root, restorecon(tmp_path, "echo no such label >&2; exit 1"))
    fact = perform(label, CommitLabels(("/etc/shadow",)), root, tools_in(())).fact
    assert fact == "SELinux is on, and there is no restorecon: what was written keeps the labels that it was made with"


def test_a_relative_path_is_no_path(root: Path) -> None:
    with pytest.raises(CommitError, match="not absolute"):
        perform(label, CommitLabels(("etc/shadow",)), root, tools_in(()))
