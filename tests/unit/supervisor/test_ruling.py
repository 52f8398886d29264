# SPDX-License-Identifier: Apache-2.0
"""The ruling on a policy, whole: shipped sources, overrides, settings in; one policy out, or one sentence."""

import msgspec
import pytest

from ipc.errors import ConfigError
from ipc.records import MECHANISMS
from policy.compile import compile_policy
from policy.load import own_folder
from policy.material import Anchors, Material
from policy.profile import CompiledPolicy, Profile
from policy.sources import read_sources
from supervisor.compiler.ruling import rule

SOURCES = read_sources(own_folder())
WHY = 'why = "Our machines need less than most."\n'
TIGHTER = f"[parser]\n{WHY}limits.memory_mib = 64\n".encode()
LOOSER = f"[parser]\n{WHY}limits.memory_mib = 4096\n".encode()
ALLOWED = b"Policy.AllowLoosening=y\n"


def ruled(override: bytes = b"", config: bytes = b"") -> CompiledPolicy:
    return rule(Material(SOURCES, {"10-a.toml": override} if override else {}, b"", config, "/etc/waagent.conf"))


def parser(policy: CompiledPolicy) -> Profile:
    return next(compiled.profile for compiled in policy.programs if compiled.profile.kind == "parser")


def test_without_overrides_it_is_the_shipped_policy() -> None:
    assert ruled(config=b"Policy.MinLevel=basic\n") == compile_policy(SOURCES)


def test_a_tightening_is_compiled_and_has_a_digest_of_its_own() -> None:
    policy = ruled(TIGHTER)
    assert parser(policy).limits.memory_mib == 64
    assert policy.digest != ruled().digest
    assert (policy.origin.files, policy.origin.loosened, policy.origin.may_loosen) == (("10-a.toml",), (), False)
    assert len(policy.programs) == len(ruled().programs)


def test_a_call_that_is_taken_away_is_not_in_the_filter() -> None:
    shipped, less = ruled(), ruled(f'[parser]\n{WHY}remove.calls = ["memfd_create"]\n'.encode())
    lengths = [
        next(len(each.locked_filter) for each in policy.programs if each.profile.kind == "parser")
        for policy in (shipped, less)
    ]
    assert lengths[1] < lengths[0]


def test_a_loosening_is_refused_unless_the_settings_allow_it() -> None:
    for config in (b"", b"Policy.AllowLoosening=n\n"):
        with pytest.raises(ConfigError, match=r"unless Policy\.AllowLoosening=y; .*parser: limits\.memory_mib: 4096"):
            ruled(LOOSER, config)
    policy = ruled(LOOSER, ALLOWED)
    assert parser(policy).limits.memory_mib == 4096
    assert policy.origin.loosened == ("parser: limits.memory_mib: 4096 is more than 128",)


def test_what_no_policy_may_be_is_refused_even_then() -> None:
    granted = f'[parser]\n{WHY}[[parser.grant.capabilities]]\nname = "sys_admin"\n{WHY}'.encode()
    with pytest.raises(ConfigError, match="a worker that speaks ZeroMQ may hold none"):
        ruled(granted, ALLOWED)


def test_paths_that_are_named_anew_are_told() -> None:
    narrowed = f'[hostname]\n{WHY}remove.paths = ["/etc"]\n[[hostname.grant.paths]]\npath = "/etc/hostname"\n{WHY}'
    assert ruled((narrowed + 'access = "rw"\n').encode()).origin.granted == ("/etc/hostname",)


def test_the_higher_of_both_levels_counts() -> None:
    assert ruled(b'min_level = "reduced"\n', b"Policy.MinLevel=full\n").required == MECHANISMS
    assert ruled(b'min_level = "full"\n', b"Policy.MinLevel=basic\n").min_level == "full"
    assert ruled(config=b"Policy.MinLevel=reduced\n").required == ("landlock", "memory-limit", "pids-limit")


@pytest.mark.parametrize(
    "line", [b"Policy.MinLevel=ful", b"Policy.MinLevel=", b"Policy.AllowLoosening=maybe", b"\0", b"\xff"]
)
def test_a_setting_that_can_not_be_understood_has_no_default(line: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        ruled(TIGHTER, b"Logs.Verbose=perhaps\n" + line + b"\n")
    assert caught.value.source == "/etc/waagent.conf"
    assert "line 2" in caught.value.problem


def test_nothing_is_read_that_had_to_be_signed_and_is_not() -> None:
    unreadable = Material(SOURCES, {"a.toml": b"[["}, fixed=Anchors({}, required=True))
    with pytest.raises(ConfigError, match="a signature is required"):
        rule(unreadable)
    with pytest.raises(ConfigError, match="is not TOML"):
        rule(msgspec.structs.replace(unreadable, fixed=Anchors()))
