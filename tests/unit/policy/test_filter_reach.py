# SPDX-License-Identifier: Apache-2.0
"""What is read back from a compiled filter is what it was compiled from."""

import pytest

from ipc.errors import ConfigError
from policy.compile import compile_policy
from policy.filter_reach import otherwise, reach
from policy.filters import number, program
from policy.groups import CallSet, Only, stages
from policy.load import own_folder
from policy.profile import CompiledPolicy
from policy.reading import read_policy
from policy.sources import read_sources

WHY = "what the test is about"


@pytest.fixture(scope="module")
def compiled() -> CompiledPolicy:
    return compile_policy(read_sources(own_folder()))


def test_every_filter_of_this_policy_says_what_its_sources_say(compiled: CompiledPolicy) -> None:
    profiles, groups = read_policy(read_sources(own_folder()))
    for entry in compiled.programs:
        source = entry.profile.kind
        for code, calls in zip(
            (entry.startup_filter, entry.locked_filter), stages(entry.profile, profiles, groups), strict=True
        ):
            found = reach(code, source)
            here = {at: name for name in calls.reachable if (at := number(name, source)) is not None}
            assert set(found) == set(here)
            assert {here[each] for each, outright in found.items() if outright} == calls.allowed & set(here.values())
            assert otherwise(code, source) == calls.otherwise


def test_a_call_that_is_refused_or_judged_is_told_apart() -> None:
    calls = CallSet(
        frozenset({"read"}),
        frozenset({"open"}),
        (Only("ioctl", 1, (0x5401,), WHY), Only("fcntl", 1, (1,), WHY, answer="enosys")),
        "kill",
    )
    found = reach(program(calls, "test"), "test")
    assert found == {number("read", "test"): True, number("ioctl", "test"): False}


@pytest.mark.parametrize("broken", [b"", b"\x15\0\xff\xff\0\0\0\0", b"\x07\0\0\0\0\0\0\0" * 2])
def test_what_is_no_filter_of_ours_is_said(broken: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^x: is no filter"):
        otherwise(broken, "x")
