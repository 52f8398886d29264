# SPDX-License-Identifier: Apache-2.0
"""What the supervisor reads of a process without privilege, against a policy."""

import os
from typing import Any

import pytest

from supervisor.kernel_view import GONE, credential_mismatches, mismatches, status_fields
from tests.jail.profiles import capabilities, profile

UID = 61000
RIGHT = {
    "Uid": f"{UID} {UID} {UID} {UID}",
    "Gid": f"{UID} {UID} {UID} {UID}",
    "Groups": "",
    "CapInh": "0000000000000001",
    "CapPrm": "0000000000000001",
    "CapEff": "0000000000000001",
    "CapBnd": "0000000000000001",
    # It starts no program that could keep any.
    "CapAmb": "0000000000000000",
    "NoNewPrivs": "1",
    "Seccomp": "2",
    "Seccomp_filters": "2",
    "Umask": "0077",
}
FILTERS = 2
POLICY = profile(capabilities=capabilities("chown"))


def test_what_is_as_the_policy_says_has_no_mismatch() -> None:
    assert credential_mismatches(RIGHT, UID, POLICY, FILTERS) == []


@pytest.mark.parametrize("field", RIGHT)
def test_each_field_counts(field: str) -> None:
    for value in ("7", None):
        wrong: dict[str, Any] = RIGHT | {field: value}
        if value is None:
            del wrong[field]
        found = credential_mismatches(wrong, UID, POLICY, FILTERS)
        assert len(found) == (0 if field == "Groups" and value is None and not wrong.get(field, "x") else 1)
        assert found[0].startswith(f"{field} is ")


def test_a_single_differing_id_is_enough() -> None:
    for place in range(4):
        ids = [str(UID)] * 4
        ids[place] = "0"
        assert credential_mismatches(RIGHT | {"Uid": " ".join(ids)}, UID, POLICY, FILTERS)


def test_inherited_filters_come_on_top() -> None:
    inherited = RIGHT | {"Seccomp_filters": "3"}
    assert credential_mismatches(inherited, UID, POLICY, 3) == []
    assert credential_mismatches(RIGHT, UID, POLICY, 3) == ["Seccomp_filters is '2', policy says '3'"]


def test_the_kernels_text_is_read_field_by_field() -> None:
    text = "Name:\tx: y\nUid:\t0\t1\t2\t3\nGroups:\t \n"
    assert status_fields(text) == {"Name": "x: y", "Uid": "0 1 2 3", "Groups": ""}


def test_this_process_is_no_worker() -> None:
    found = mismatches(os.getpid(), UID, POLICY)
    assert "not in a cgroup of its own" in found
    assert any(text.startswith("Seccomp is '0'") for text in found)


def test_a_process_that_is_gone_is_a_mismatch() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert mismatches(pid, UID, POLICY) == [GONE]
