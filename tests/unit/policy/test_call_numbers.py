# SPDX-License-Identifier: Apache-2.0
"""The table of system-call numbers is libseccomp's, and knows every call that the policy names."""

import os

import pyseccomp
import pytest

from policy.call_numbers import is_here, is_known, name_of, tables
from policy.load import own_folder
from policy.reading import read_policy
from policy.sources import read_sources

MACHINES = {"x86_64": pyseccomp.Arch.X86_64, "aarch64": pyseccomp.Arch.AARCH64}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_is_libseccomps(machine: str) -> None:
    table = tables()[machine]
    assert len(table) > 300
    assert len(set(table.values())) == len(table)
    found = {name: int(pyseccomp.resolve_syscall(MACHINES[machine], name)) for name in table}
    # An older libseccomp does not know the newest calls.
    assert {name: number for name, number in found.items() if number != -1}.items() <= table.items()
    assert sum(number >= 0 for number in found.values()) > 300


def test_every_call_of_the_policy_is_known_and_has_its_name_back() -> None:
    profiles, groups = read_policy(read_sources(own_folder()))
    named = {
        name for profile in profiles for calls in (profile.startup_calls, profile.locked_calls) for name in calls.names
    }
    for group in groups.values():
        named |= {*group.names, *group.enosys, *(only.name for only in group.only)}
    assert [name for name in sorted(named) if not is_known(name)] == []
    own = tables().get(os.uname().machine, {})
    assert {name_of(number) for number in own.values()} == set(own)


def test_what_another_machine_has_is_not_here() -> None:
    assert is_here("open", "x86_64")
    assert not is_here("open", "aarch64")
    assert is_here("open", "a machine without a table")
    assert not is_here("make_tea", "a machine without a table")
    assert name_of(4095, "x86_64") == "call 4095"
