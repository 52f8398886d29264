# SPDX-License-Identifier: Apache-2.0
"""The paths that only an installation knows."""

from pathlib import Path

import pytest

from ipc.errors import ConfigError
from policy.placeholders import expand, installation
from policy.profile import PathGrant


def grant(path: str, access: str = "rx") -> PathGrant:
    return PathGrant(path=path, access=access, why="what the test is about")  # type: ignore[arg-type]


def test_the_interpreter_is_found_through_its_links(tmp_path: Path) -> None:
    real = tmp_path / "versions" / "bin" / "python3.11"
    real.parent.mkdir(parents=True)
    real.touch()
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    started = tmp_path / "env" / "bin" / "python"
    started.symlink_to(tmp_path / "link")
    stdlib = tmp_path / "versions" / "lib" / "python3.11" / "os.py"
    found = installation(str(tmp_path / "env"), str(started), str(stdlib), str(tmp_path / "app" / "policy"))
    assert {str(tmp_path / "env"), str(stdlib.parent), str(tmp_path / "link"), str(real)} <= set(found["${python}"])
    assert found["${project}"] == (f"{tmp_path}/app",)


def test_a_path_below_another_of_the_same_access_is_left_out() -> None:
    places = {"${python}": ("/opt/py", "/opt/py/lib", "/opt/pyx")}
    grants = (grant("${python}"), grant("/opt/py/data", "ro"), grant("/opt/py"))
    assert [(each.path, each.access) for each in expand(grants, places, "test")] == [
        ("/opt/py", "rx"),
        ("/opt/pyx", "rx"),
        ("/opt/py/data", "ro"),
    ]


def test_an_unknown_placeholder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"profiles/x\.toml: nothing is known of"):
        expand((grant("${moon}"),), {}, "profiles/x.toml")
