# SPDX-License-Identifier: Apache-2.0
"""From TOML to the compiled policy: this policy is whole, and every fault is named with its file and key."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from ipc.errors import ConfigError
from policy.call_numbers import is_here
from policy.compile import compile_policy, main
from policy.lint import absent_modules, lint
from policy.load import FILE_NAME, load, own_folder
from policy.placeholders import LIB, NOTIFY
from policy.profile import Profile
from policy.reading import read_policy
from policy.sources import read_sources

PLACES = {"${python}": ("/opt/python",), "${project}": ("/opt/project/ipc",)}


@pytest.fixture(scope="module")
def sources() -> dict[str, bytes]:
    return read_sources(own_folder())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the policy's sources, compiled."""
    for part in ("calls", "profiles"):
        shutil.copytree(Path(own_folder()) / part, tmp_path / "policy" / part)
    assert main(["--folder", str(tmp_path / "policy")]) == 0
    return tmp_path / "policy"


def profiles_of(sources: Mapping[str, bytes]) -> dict[str, Profile]:
    return {profile.kind: profile for profile in read_policy(sources)[0]}


def test_this_policy_is_clean_and_every_module_is_there(sources: dict[str, bytes]) -> None:
    profiles, groups = read_policy(sources)
    assert lint(profiles, groups) == []
    assert absent_modules(profiles, Path(own_folder()).parent) == []
    assert {"supervisor", "spawner", "parser", "vault", "verifier"} <= {profile.kind for profile in profiles}


def test_no_worker_that_parses_holds_anything(sources: dict[str, bytes]) -> None:
    for profile in profiles_of(sources).values():
        if profile.module.startswith(("workers.parser", "workers.provisioning")):
            assert profile.capabilities == ()
            assert profile.view == "own"
            assert set(profile.namespaces.new) == {"mount", "uts", "ipc", "net", "cgroup", "pid", "user"}
            assert {grant.access for grant in profile.paths} <= {"channel"}


def test_filters_are_whole_instructions_and_the_second_one_is_tighter(sources: dict[str, bytes]) -> None:
    for compiled in compile_policy(sources).programs:
        for program in (compiled.startup_filter, compiled.locked_filter):
            assert program
            assert len(program) % 8 == 0
            assert len(program) // 8 <= 4096
        assert len(compiled.locked_filter) <= len(compiled.startup_filter)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b'why = "It needs nothing of the host', b'reason = "It needs nothing of the host', "namespaces"),
        (b"open_files = 64", b"open_flies = 64", "open_flies"),
        (b"uid = 60800", b'uid = "root"', "identity.uid"),
        (b'groups = ["runtime",', b'groups = ["sunshine", "runtime",', "sunshine"),
        (b'kind = "parser"', b'kind = "other"', "kind"),
        (b"names = []", b'names = ["make_tea"]', "make_tea"),
        (b"[identity]", b"[identity", "is not TOML"),
    ],
)
def test_a_fault_is_named_with_file_and_key(sources: dict[str, bytes], old: bytes, new: bytes, named: str) -> None:
    name = "profiles/parser.toml"
    assert old in sources[name]
    with pytest.raises(ConfigError) as caught:
        compile_policy({**sources, name: sources[name].replace(old, new, 1)})
    assert name in str(caught.value)
    assert named in str(caught.value)


# The verifier's second stage.
LOCKED = b'"files-look"]\nnames = ["getppid"]'


@pytest.mark.parametrize(
    ("kind", "old", "new", "problem"),
    [
        ("provisioning", b"uid = 60720", b"uid = 60801", "shares uids with"),
        ("provisioning", b"uid = 60720", b"uid = 60700", "identity.uid"),
        ("parser", b"instances = 8", b"instances = 9", "lifetime.instances"),
        ("account", b'name = "chown"', b'name = "flying"', "the kernel knows no flying"),
        ("account", b'"ipc", "net", "cgroup"]', b'"ipc", "cgroup"]', "without `net`"),
        ("parser", b'path = "/channel"', b'path = "/run/../channel"', "not absolute and plain"),
        ("parser", b'access = "channel"', b'access = "tools"', "needs its channel"),
        ("parser", b'new = ["mount", ', b"new = [", "needs `mount`"),
        ("verifier", LOCKED, LOCKED[:-1] + b', "ptrace"]', "not among the startup calls: ptrace"),
        ("verifier", LOCKED, LOCKED[:-1] + b', "execve"]', "only companions start programs"),
        ("account", b'"account-programs"', b'"parser"', "no kind parser runs programs for others"),
        ("account", b'programs = "account-programs"', b"", "a companion serves one kind, not 0"),
        ("password", b'"password-programs"', b'"account-programs"', "a companion serves one kind, not 2"),
        ("sudoers-programs", b"[[runs]]", b"[[capabilities]]", "runs: names no program"),
        ("parser", b"[identity]", b'[[runs]]\nname = "sh"\nwhy = "for a test of lint"\n[identity]', "only a companion"),
        ("host-keys", b'start = "fork"', b'start = "exec"', "only a forked worker may have them run"),
        ("labels-programs", b"uid = 0", b"uid = 61000", "a companion is root, or else"),
    ],
)
def test_lint_refuses(sources: dict[str, bytes], kind: str, old: bytes, new: bytes, problem: str) -> None:
    name = f"profiles/{kind}.toml"
    assert old in sources[name]
    with pytest.raises(ConfigError, match="policy") as caught:
        compile_policy({**sources, name: sources[name].replace(old, new, 1)})
    assert problem in str(caught.value)


@pytest.mark.parametrize("kind", ["parser", "sudoers"])
def test_lint_counts_the_locked_calls_of_a_worker(kind: str, sources: dict[str, bytes]) -> None:
    further = "getuid getgid geteuid getegid getppid uname umask sysinfo times sync alarm pause".split()
    # Behind a list of groups.
    old, new = b'"]\nnames = []', f'"]\nnames = {further}'.encode()
    name = f"profiles/{kind}.toml"
    assert sources[name].count(old) == 2
    with pytest.raises(ConfigError, match="gets 60"):
        compile_policy({**sources, name: sources[name].replace(old, new)})


def test_what_stands_for_a_call_is_there_where_the_call_is_not(sources: dict[str, bytes]) -> None:
    _, groups = read_policy(sources)
    pairs = [pair for group in groups.values() for pair in group.instead.items()]
    assert pairs
    for name, other in pairs:
        assert (is_here(name, "x86_64"), is_here(name, "aarch64"), is_here(other, "aarch64")) == (True, False, True)
    allowed = groups["files-edit"].allowed
    assert ("mkdirat" in allowed, "mkdir" in allowed) == (not is_here("mkdir"), is_here("mkdir"))


def test_a_call_allowed_here_and_judged_there_is_refused(sources: dict[str, bytes]) -> None:
    name = "profiles/parser.toml"
    with pytest.raises(ConfigError, match="judged or refused by another: socket"):
        compile_policy({**sources, name: sources[name].replace(b"names = []", b'names = ["socket"]', 1)})


def test_a_module_that_is_not_there_is_named(sources: dict[str, bytes], tmp_path: Path) -> None:
    profile = profiles_of(sources)["parser"]
    assert f"there is no module {profile.module}" in absent_modules([profile], tmp_path)[0]


def test_what_was_compiled_loads_with_its_paths_filled_in(folder: Path) -> None:
    policy = load(str(folder), places=PLACES)
    paths = {grant.path for compiled in policy.programs for grant in compiled.profile.paths}
    assert {"/opt/python", "/opt/project/ipc"} <= paths
    assert {path for path in paths if "$" in path} == {NOTIFY, LIB}
    assert policy.machine == os.uname().machine


def test_check_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / FILE_NAME).unlink()
    assert main(["--folder", str(folder), "--check"]) == 1  # its modules are not beside this copy
    assert "there is no module" in capsys.readouterr().err
    assert not (folder / FILE_NAME).exists()


def test_a_changed_source_is_seen_at_load(folder: Path) -> None:
    (folder / "calls" / "runtime.toml").write_bytes((folder / "calls" / "runtime.toml").read_bytes() + b"\n# more\n")
    with pytest.raises(ConfigError, match="does not fit its sources"):
        load(str(folder), places=PLACES)


def test_another_machine_a_missing_and_a_broken_file_are_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="was made for"):
        load(str(folder), machine="pdp11", places=PLACES)
    whole = (folder / FILE_NAME).read_bytes()
    for broken in (b"", whole[:-1], b"\xc1" + whole, msgspec.msgpack.encode({"digest": 1})):
        (folder / FILE_NAME).write_bytes(broken)
        with pytest.raises(ConfigError, match="is no compiled policy"):
            load(str(folder), places=PLACES)
    (folder / FILE_NAME).unlink()
    with pytest.raises(ConfigError, match="can't be read"):
        load(str(folder), places=PLACES)
