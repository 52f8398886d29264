# SPDX-License-Identifier: Apache-2.0
"""Gathering overrides: what is looked for, what is taken, and what is refused before anybody reads it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ipc.errors import ConfigError
from policy.load import own_folder
from supervisor.policy_files import MAX_FILE_BYTES, MAX_FILES, Places, config_bytes, gathered, is_as_shipped

MINE = os.geteuid() == 0


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "cmdline").write_bytes(b"quiet root=/dev/sda1\n")
    for name in ("etc/policy.d", "usr"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "etc").chmod(0o755)
    return Places(f"{tmp_path}/etc/policy.d", f"{tmp_path}/etc", f"{tmp_path}/usr", f"{tmp_path}/cmdline", strict=MINE)


def test_a_machine_that_says_nothing_has_the_shipped_policy(places: Places) -> None:
    Path(places.overrides, "README").write_text("not an override")
    Path(places.overrides, ".10-a.toml.swp").write_text("not one either")
    config = b"# Policy.MinLevel=full\nPolicy.AllowLoosening=y\nLogs.Verbose=n\n"
    assert is_as_shipped(places, config)
    Path(places.overrides, "README").unlink()
    assert is_as_shipped(Places(overrides="/nowhere", command_line=places.command_line), b"")


SAYS: dict[str, Callable[[Places], object]] = {
    "an override": lambda places: Path(places.overrides, "a.toml").touch(),
    "a signature": lambda places: Path(places.overrides, "policy.sig").touch(),
    "a requirement in /usr": lambda places: Path(places.fixed, "policy-signature-required").touch(),
    "a requirement in /etc that is a dangling link": lambda places: Path(
        places.local, "policy-signature-required"
    ).symlink_to("nothing"),
    "a word for the kernel": lambda places: Path(places.command_line).write_bytes(b"a agent_supervisor.policy_x b"),
}


@pytest.mark.parametrize("case", SAYS)
def test_whatever_may_have_to_do_with_the_policy_is_for_the_compiler_to_judge(places: Places, case: str) -> None:
    SAYS[case](places)
    assert not is_as_shipped(places, b"")


@pytest.mark.parametrize("line", [b"Policy.MinLevel=full", b" Policy.MinLevel = full", b"\xc2\xa0Policy.MinLevel=x"])
def test_so_is_a_least_level_however_it_is_written(places: Places, line: bytes) -> None:
    assert not is_as_shipped(places, b"Logs.Verbose=n\n" + line + b"\n")


def test_what_is_there_is_gathered_by_name(places: Places) -> None:
    Path(places.overrides, "b.toml").write_bytes(b"b")
    Path(places.overrides, "a.toml").write_bytes(b"a")
    Path(places.overrides, "policy.sig").write_bytes(b"s")
    Path(places.overrides, ".c.toml").write_bytes(b"c")
    Path(places.fixed, "policy-keys").mkdir()
    Path(places.fixed, "policy-keys").chmod(0o755)
    Path(places.fixed, "policy-keys/k.pem").write_bytes(b"k")
    Path(places.local, "policy-signature-required").touch()
    material = gathered(places, own_folder(), "/etc/waagent.conf", b"config")
    assert material.overrides == {"a.toml": b"a", "b.toml": b"b"}
    assert (material.signature, material.config, material.command_line) == (b"s", b"config", b"quiet root=/dev/sda1\n")
    assert (material.fixed.keys, material.fixed.required) == ({"k.pem": b"k"}, False)
    assert (material.local.keys, material.local.required) == ({}, True)
    assert "profiles/parser.toml" in material.shipped


def _link(path: Path) -> None:
    path.with_name("target").write_bytes(b"")
    path.symlink_to("target")


def _writable(path: Path) -> None:
    path.touch()
    path.chmod(0o664)


def _foreign(path: Path) -> None:
    path.touch()
    os.chown(path, 1000, 0)


def _many(path: Path) -> None:
    for number in range(MAX_FILES + 1):
        path.with_name(f"{number}.toml").touch()


def _open_folder(path: Path) -> None:
    path.touch()
    path.parent.chmod(0o777)


def _linked_folder(path: Path) -> None:
    path.parent.rmdir()
    path.parent.symlink_to("/tmp")


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (_link, "links are not followed"),
    "a folder": (Path.mkdir, "is not a regular file"),
    "a FIFO": (os.mkfifo, "is not a regular file"),
    "too large": (lambda path: path.write_bytes(b"#" * (MAX_FILE_BYTES + 1)), "is larger than"),
    "too many": (_many, f"has {MAX_FILES + 1} files"),
    "a folder that is a link": (_linked_folder, "policy.d: can't be read"),
}
NOT_ROOTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "writable by a group": (_writable, "mode 0664"),
    "somebody else's": (_foreign, "belongs to uid 1000"),
    "in a folder that all may write": (_open_folder, "mode 0777"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_file_that_can_not_be_taken_is_named(places: Places, case: str) -> None:
    make, named = UNUSABLE[case]
    make(Path(places.overrides, "a.toml"))
    with pytest.raises(ConfigError, match=named) as caught:
        gathered(places, own_folder())
    assert caught.value.source.startswith(places.overrides)


@pytest.mark.root
@pytest.mark.parametrize("case", NOT_ROOTS)
def test_what_others_than_root_may_write_is_refused(places: Places, case: str) -> None:
    make, named = NOT_ROOTS[case]
    make(Path(places.overrides, "a.toml"))
    with pytest.raises(ConfigError, match=named):
        gathered(places, own_folder())


def test_settings_that_can_not_be_read_are_left_to_the_supervisor(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * (1 << 20) + b"#")
    assert [config_bytes(f"{tmp_path}/{name}") for name in ("fifo", "large", "absent")] == [b"", b"", b""]
