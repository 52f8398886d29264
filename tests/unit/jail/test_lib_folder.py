# SPDX-License-Identifier: Apache-2.0
"""The spawner reads Lib.Dir as the supervisor does, and lets committers write there and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.load import load
from supervisor import config, options
from supervisor.layout import Layout
from supervisor.spawner import lib_folder

DEFAULT = Layout().lib
LINES = st.sampled_from(
    [
        "Lib.Dir=/srv/lib", " Lib.Dir = /srv/other ", 'Lib.Dir="/opt/quoted"\r', "#Lib.Dir=/no", "Lib.Dir=/a # note",
        "lib.dir=/lower", "Lib.Dir", "Lib.Dir=None", "Pid.File=/run/x", "Lib.Dir=/trailing/", "=", "",
    ]
)  # fmt: skip


@given(st.lists(LINES, max_size=6))
def test_it_is_what_the_supervisor_reads(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert lib_folder.folder(text.encode()) == str(config.parse(text).config[options.LIB_DIR]).rstrip("/")


@pytest.mark.parametrize("value", ["/", "/etc", "/usr/", "relative", "/a/../etc", "/a//b", "/a/./b", "/a\tb", "\xff"])
def test_what_is_no_folder_of_ours_counts_as_none(value: str) -> None:
    assert lib_folder.folder(f"Lib.Dir={value}".encode("latin-1")) == DEFAULT


def test_only_committers_get_it() -> None:
    shipped = load()
    filled = lib_folder.filled_in(shipped, b"Lib.Dir=/srv/lib\n")
    before, after = ({each.profile.kind: each.profile for each in one.programs} for one in (shipped, filled))
    changed = {kind for kind, profile in after.items() if profile != before[kind]}
    assert "handler-files" in changed
    assert "supervisor" not in changed
    for kind in changed:
        assert "${lib}" in {grant.path for grant in before[kind].paths}
        added = {grant.path for grant in after[kind].paths} - {grant.path for grant in before[kind].paths}
        assert added == {"/srv/lib"}
