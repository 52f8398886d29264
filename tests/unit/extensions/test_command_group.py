# SPDX-License-Identifier: Apache-2.0
"""Who lives in a command's cgroup: each of them, and nobody else, however many they are."""

from pathlib import Path

from supervisor.jail.handler_group import living


def test_of_thousands_none_is_cut_to_the_number_of_another(tmp_path: Path) -> None:
    many = set(range(1_000_000, 1_020_000))
    (tmp_path / "below").mkdir()
    (tmp_path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in sorted(many)))
    (tmp_path / "below/cgroup.procs").write_text("77\n")
    assert living(str(tmp_path)) == many | {77}
