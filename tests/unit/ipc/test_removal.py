# SPDX-License-Identifier: Apache-2.0
"""Files removed by name: what matches and nothing else, never through a link, and no more than there should be."""

import os
from pathlib import Path

import pytest

from ipc import removal


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "lib/sub/deep").mkdir(parents=True)
    for name in ("a.xml", "b.xml", "keep", "sub/c.xml", "sub/deep/d.xml"):
        (tmp_path / "lib" / name).touch()
    (tmp_path / "lib/folder.xml").mkdir()
    (tmp_path / "lib/link.xml").symlink_to("keep")
    (tmp_path / "elsewhere").symlink_to("lib")
    (tmp_path / "lib/sub/out").symlink_to("../..")
    return tmp_path


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root / "lib")) for path in (root / "lib").rglob("*")}


def test_what_matches_goes_and_folders_stay(root: Path) -> None:
    before = left(root)
    assert list(removal.remove_matching("/lib", ("*.xml",), str(root))) == ["/lib/a.xml", "/lib/b.xml", "/lib/link.xml"]
    assert before - left(root) == {"a.xml", "b.xml", "link.xml"}
    assert list(removal.remove_matching("/lib", ("*.xml",), str(root))) == []


def test_a_link_on_the_way_is_not_followed(root: Path) -> None:
    before = left(root)
    for folder in ("/elsewhere", "/elsewhere/sub", "/lib/sub/out/lib", "/nowhere", "/lib/keep"):
        assert list(removal.remove_matching(folder, ("*",), str(root))) == []
        assert list(removal.empty(folder, str(root))) == []
        assert removal.folders(folder, str(root)) == []
    assert left(root) == before
    assert removal.folders("/lib", str(root)) == ["folder.xml", "sub"]


def test_a_folder_is_emptied_to_its_bottom_and_links_in_it_lead_nowhere(root: Path) -> None:
    removed = list(removal.empty("/lib/sub", str(root)))
    assert removed == ["/lib/sub/c.xml", "/lib/sub/deep/d.xml", "/lib/sub/deep", "/lib/sub/out"]
    assert left(root) >= {"sub", "keep", "a.xml"}
    assert list(removal.empty("/lib/sub", str(root))) == []


def test_a_tree_deeper_and_a_folder_larger_than_any_real_one_is_refused(root: Path) -> None:
    (root / "lib").joinpath(*["d"] * (removal.DEEPEST + 1)).mkdir(parents=True)
    with pytest.raises(OSError, match="folders deep"):
        list(removal.empty("/lib/d", str(root)))
    for number in range(removal.MOST_ENTRIES + 1):
        os.mknod(root / f"lib/sub/{number}")
    with pytest.raises(OSError, match="more than 10000 files"):
        list(removal.remove_matching("/lib/sub", ("1",), str(root)))
