# SPDX-License-Identifier: Apache-2.0
"""The sealed tree: what Landlock does not judge is refused by it, and succeeds under Landlock alone."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from policy.profile import PathGrant
from supervisor.jail import capabilities as caps
from supervisor.jail import landlock, mounts, namespaces, sealed_tree, syscalls
from tests.jail.forked import attempt, in_child
from tests.jail.profiles import grants, profile

pytestmark = pytest.mark.root
BARE = 1 | 2 | 4 | 8


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """Two folders with a program of root's each, one of them to be granted."""
    for name in ("granted", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "program").write_text("x")
        (tmp_path / name / "program").chmod(0o755)
    return tmp_path


def within(paths: tuple[PathGrant, ...], act: Callable[[], object], *, sealed: bool, before: object = None) -> object:
    """What `act` gives in a mount namespace of its own, with a service listening in /run, under Landlock."""

    def confined() -> object:
        namespaces.leave(["mount"])
        mounts.make_private()
        syscalls.mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")
        service = socket.socket(socket.AF_UNIX)
        service.bind("/run/service")
        service.listen()
        Path("/run/pid").write_text("1")
        if callable(before):
            before()
        if sealed:
            sealed_tree.seal(paths)
        caps.no_new_privileges()
        if landlock.version():
            landlock.restrict(profile(paths=paths))
        return act()

    return in_child(confined).value


def reach(path: str) -> int:
    with socket.socket(socket.AF_UNIX) as client:
        return attempt(lambda: client.connect(path))


@pytest.mark.parametrize("sealed", [True, False])
def test_modes_owners_and_sockets_elsewhere_are_out_of_reach(ground: Path, sealed: bool) -> None:
    other = ground / "other/program"

    def act() -> list[int]:
        return [
            attempt(lambda: other.chmod(0o4755)),
            attempt(lambda: os.chown(other, 1, 1)),
            attempt(lambda: os.utime(other)),
            attempt(lambda: os.setxattr(other, "trusted.mark", b"x")),
            reach("/run/service"),
        ]

    found = within(grants(tools=str(ground / "granted"), ro=str(ground / "other")), act, sealed=sealed)
    assert found == ([errno.EROFS] * 4 + [errno.ENOENT] if sealed else [0] * 5)
    assert other.stat().st_mode & 0o7777 == (0o755 if sealed else other.stat().st_mode & 0o7777)


def test_what_is_granted_can_be_written(ground: Path) -> None:
    granted = ground / "granted/program"

    def act() -> list[int]:
        return [
            attempt(lambda: granted.chmod(0o700)),
            attempt(lambda: granted.rename(ground / "granted/renamed")),
            attempt(lambda: (ground / "granted/new").write_text("y")),
        ]

    assert within(grants(tools=str(ground / "granted")), act, sealed=True) == [0, 0, 0]
    assert (ground / "granted/renamed").stat().st_mode & 0o7777 == 0o700


def test_of_run_only_what_is_granted_is_there() -> None:
    found = within(
        grants(ro="/run/pid", rx="/usr"),
        lambda: [Path("/run/pid").read_text(), attempt(lambda: Path("/run/service").stat())],
        sealed=True,
    )
    assert found == ["1", errno.ENOENT]


def test_a_mount_that_was_read_only_stays_so(ground: Path) -> None:
    granted = str(ground / "granted")

    def before() -> None:
        syscalls.mount(granted, granted, None, 4096)
        syscalls.mount(None, granted, None, 32 | 4096 | 1)

    done = within(
        grants(tools=granted),
        lambda: attempt(lambda: Path(granted, "program").chmod(0o700)),
        sealed=True,
        before=before,
    )
    assert done == errno.EROFS


def test_restrictions_of_other_mounts_stay(ground: Path) -> None:
    other = str(ground / "other")

    def before() -> None:
        syscalls.mount("tmpfs", other, "tmpfs", BARE & ~1)

    def act() -> list[str]:
        table = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split()[5] for line in table if line.split()[4] == other]

    options = within(grants(tools=str(ground / "granted"), ro="/proc"), act, sealed=True, before=before)
    assert isinstance(options, list)
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options[0].split(","))


def test_a_folder_of_run_with_a_link_in_it_is_nobodys_grant(ground: Path) -> None:
    """Services own folders in /run, and could point them at anything."""

    def before() -> None:
        Path("/run/service.d").symlink_to(ground / "other")

    def act() -> list[int]:
        return [attempt((ground / "other/program").unlink), attempt(Path("/run/service.d/program").stat)]

    found = within(grants(remove="/run/service.d"), act, sealed=True, before=before)
    assert found in ([errno.EROFS, errno.ENOENT], [errno.EACCES, errno.ENOENT])
    assert (ground / "other/program").exists()


@pytest.mark.parametrize("name", ["日本 x", "back\\slash", "line\nbreak"])
def test_mounts_with_odd_names_and_covered_ones_are_sealed(ground: Path, name: str) -> None:
    odd, covered = ground / name, ground / "covered"

    def before() -> None:
        for folder in (odd, covered, covered / "below"):
            folder.mkdir()
            syscalls.mount("tmpfs", str(folder), "tmpfs", 0)
        syscalls.mount("tmpfs", str(covered), "tmpfs", 0)

    def act() -> int:
        table = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return sum("rw" in fields[5].split(",") for fields in table)

    assert within(grants(tools=str(ground / "granted"), ro="/proc"), act, sealed=True, before=before) == 1


def test_without_the_newer_calls_it_is_done_mount_by_mount(ground: Path) -> None:
    granted, other = ground / "granted", ground / "other/program"

    def sealed() -> list[int]:
        namespaces.leave(["mount"])
        mounts.make_private()
        (ground / "日 x").mkdir()
        syscalls.mount("tmpfs", str(ground / "日 x"), "tmpfs", 0)
        sealed_tree.seal_one_by_one([str(granted)])
        return [
            attempt(lambda: other.chmod(0o4755)),
            attempt((ground / "日 x/new").touch),
            attempt((granted / "new").touch),
        ]

    assert in_child(sealed).value == [errno.EROFS, errno.EROFS, 0]


def test_nothing_is_changed_for_who_may_write_everything(ground: Path) -> None:
    other = ground / "other/program"
    assert within(grants(rw="/"), lambda: attempt(lambda: other.chmod(0o700)), sealed=True) == 0
