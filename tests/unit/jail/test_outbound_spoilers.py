# SPDX-License-Identifier: Apache-2.0
"""Which kernels could take a running command's sockets out of its cgroup, and its outbound list with them."""

import pytest

from supervisor.jail.handler_outbound import spoiler_of

MOUNTED = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t1\t1\nnet_cls\t7\t1\t1\nnet_prio\t0\t1\t1\n"


@pytest.mark.parametrize(
    ("release", "cgroups", "spoiler"),
    [
        ("5.4.0-150-generic", MOUNTED, "net_cls"),
        ("5.14.0-70.el9.x86_64", MOUNTED, "net_cls"),
        ("5.4.0-150-generic", MOUNTED.replace("net_cls\t7", "net_cls\t0"), ""),
        ("5.15.0-1-amd64", MOUNTED, ""),
        ("6.1.0", MOUNTED, ""),
    ],
)
def test_a_controller_that_spoils_it_is_found(release: str, cgroups: str, spoiler: str) -> None:
    assert spoiler_of(release, cgroups) == spoiler
