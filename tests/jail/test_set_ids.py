# SPDX-License-Identifier: Apache-2.0
"""No committer and no program of a companion's leaves a file behind that runs as somebody else; nor one with rights."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from policy.compile import compile_policy
from policy.groups import CallSet, stages
from policy.lint import RESIDENT, TENANTS
from policy.load import own_folder
from policy.profile import Compiled
from policy.reading import read_policy
from policy.sources import read_sources
from supervisor.jail import capabilities, seccomp
from tests.jail.forked import End, attempt, in_child
from tests.jail.profiles import PLENTY, filter_of

pytestmark = pytest.mark.root
SOURCES = read_sources(own_folder())
PROFILES, GROUPS = read_policy(SOURCES)
# By which calls files get modes; a folder runs nothing.
MODES = frozenset({"chmod", "fchmod", "fchmodat", "open", "openat", "creat", "mknod", "mknodat", "fchmodat2"})


@pytest.fixture(scope="module")
def compiled() -> dict[str, Compiled]:
    return {entry.profile.kind: entry for entry in compile_policy(SOURCES).programs}


def under(program: bytes, act: Callable[[], object]) -> End:
    def confined() -> object:
        capabilities.no_new_privileges()
        seccomp.load(program)
        return act()

    return in_child(confined)


def ways(folder: Path) -> dict[str, Callable[[], object]]:
    """A set-user-id file, and a set-group-id one, in each way."""
    path = folder / "tool"
    path.touch()
    handed = os.open(path, os.O_RDONLY)
    made, flags = str(folder / "made"), os.O_CREAT | os.O_WRONLY
    return {
        "chmod": lambda: path.chmod(0o4755),
        "chmod, the group": lambda: path.chmod(0o2755),
        "fchmod": lambda: os.fchmod(handed, 0o4755),
        "made so": lambda: os.close(os.open(made, flags, 0o4755)),
    }


@pytest.mark.parametrize("way", ["chmod", "chmod, the group", "fchmod", "made so"])
@pytest.mark.parametrize("kind", ["sudoers", "account", "account-programs", "sshd-programs"])
def test_a_file_that_runs_as_its_owner_can_not_be_made(
    compiled: dict[str, Compiled], tmp_path: Path, kind: str, way: str
) -> None:
    act = ways(tmp_path)[way]
    end = under(compiled[kind].locked_filter, lambda: attempt(act))
    assert (end.value, end.signal) in {(None, signal.SIGSYS), (errno.ENOSYS, 0)}
    # Without the judging of modes it can.
    end = under(filter_of(PLENTY | MODES), lambda: attempt(act))
    assert (end.value, end.signal) == (0, 0)
    assert [file for file in tmp_path.iterdir() if file.stat().st_mode & 0o6000]


@pytest.mark.parametrize("kind", ["sudoers", "account", "account-programs"])
def test_all_other_modes_can_be_given(compiled: dict[str, Compiled], tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "made")

    def act() -> object:
        handed = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o640)
        os.fchmod(handed, 0o755)
        os.close(handed)
        os.close(os.open(path, os.O_RDONLY))
        return attempt(lambda: Path(path).chmod(0o600))

    assert under(compiled[kind].locked_filter, act).value == 0
    assert Path(path).stat().st_mode & 0o7777 == 0o600


def test_every_worker_that_gives_modes_has_them_judged() -> None:
    plain = {
        profile.kind: sorted(MODES & _locked(profile.kind).allowed)
        for profile in PROFILES
        if profile.kind not in RESIDENT | TENANTS and profile.view == "host"
    }
    # It makes files as the account that it has become, in that account's own home.
    assert {kind: calls for kind, calls in plain.items() if calls} == {"home-keys": ["fchmod", "openat"]}


def _locked(kind: str) -> CallSet:
    (profile,) = [profile for profile in PROFILES if profile.kind == kind]
    return stages(profile, PROFILES, GROUPS)[1]


def programs_rights(keep: frozenset[str]) -> list[str]:
    """Permitted set of a program that a process with CAP_CHOWN starts, which keeps `keep` for programs."""
    reader, writer = os.pipe()

    def act() -> None:
        capabilities.limit_to(frozenset({"chown"}))
        capabilities.keep_for_programs(keep)
        os.dup2(writer, 1)
        os.execv("/bin/grep", ["grep", "CapPrm", "/proc/self/status"])

    in_child(act)
    os.close(writer)
    with os.fdopen(reader) as output:
        return output.read().split()[1:]


def test_a_program_of_who_is_to_start_none_has_no_capability() -> None:
    assert programs_rights(frozenset()) == ["0" * 16]
    # Where they are kept it has them.
    assert programs_rights(frozenset({"chown"})) == ["0" * 15 + "1"]
