# SPDX-License-Identifier: Apache-2.0
"""The groups that `prove` makes for its probes: one that a dead predecessor of the same name left is no
obstacle."""

import sys

import pytest

from tests.fabric.lab import PROJECT, Lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

MADE_TWICE = """
from supervisor.prove import groups
name = groups.name(0)
left = groups.make(name)
assert groups.make(name) == left
assert groups.remove(left)
"""


def test_one_that_was_left_is_made_anew_and_all_are_removed() -> None:
    with Lab() as lab:
        done = lab.run([sys.executable, "-c", MADE_TWICE], cwd=str(PROJECT), cgroup="agent", timeout_s=30)
        assert (done.returncode, done.stderr) == (0, "")
        assert [folder for top in lab.cgroups.values() for folder in top.glob("**/agent-supervisor-prove*")] == []
