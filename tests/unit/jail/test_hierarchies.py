# SPDX-License-Identifier: Apache-2.0
"""Where a process's cgroups are, from the kernel's text, for every way in which machines mount them."""

import pytest

from policy.profile import Limits
from supervisor.jail import landlock
from supervisor.jail.cgroup import limit_files
from supervisor.jail.hierarchies import parse

LIMITS = Limits(memory_mib=64, pids=16, cpu_percent=50, open_files=32, file_size_mib=1, why="what the test is about")
V2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "34 24 0:29 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "36 34 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "37 34 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "38 34 0:33 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
)
HYBRID = V1 + "39 34 0:34 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
OTHERS = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:5 / /proc rw - proc proc rw\n"


def folders(cgroup: str, mounts: str) -> dict[tuple[int, str], str]:
    return {(each.version, ",".join(sorted(each.controllers))): each.folder for each in parse(cgroup, OTHERS + mounts)}


def test_version_2_alone() -> None:
    assert folders("0::/system.slice/a.service\n", V2) == {(2, ""): "/sys/fs/cgroup/system.slice/a.service"}


def test_version_1_alone_leaves_out_what_limits_nothing() -> None:
    text = "4:memory:/a\n3:cpu,cpuacct:/a/b\n1:name=systemd:/a\n"
    assert folders(text, V1) == {
        (1, "memory"): "/sys/fs/cgroup/memory/a",
        (1, "cpu,cpuacct"): "/sys/fs/cgroup/cpu,cpuacct/a/b",
    }


def test_both_at_once() -> None:
    found = folders("4:memory:/a\n3:cpu,cpuacct:/\n1:name=systemd:/a\n0::/a\n", HYBRID)
    assert found[2, ""] == "/sys/fs/cgroup/unified/a"
    assert found[1, "cpu,cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"


def test_a_mount_that_begins_below_the_root_shows_only_what_is_in_it() -> None:
    mount = "35 24 0:30 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    assert folders("0::/docker/abc/x\n", mount) == {(2, ""): "/sys/fs/cgroup/x"}
    assert folders("0::/docker/abc\n", mount) == {(2, ""): "/sys/fs/cgroup"}
    assert folders("0::/docker/abcd\n", mount) == {}
    assert folders("0::/\n", "35 24 0:30 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n") == {}


def test_a_group_outside_of_the_cgroup_namespace_leads_out_of_no_mount() -> None:
    assert folders("0::/../..\n", V2) == folders("0::/../a\n", V2) == {}
    assert folders("4:memory:/..\n3:cpu,cpuacct:/../a\n", V1) == {}
    above = "35 24 0:30 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    assert folders("0::/../a\n", above) == {(2, ""): "/sys/fs/cgroup/a"}
    assert folders("0::/../../a\n", above) == {}


def test_names_with_blanks_and_colons() -> None:
    assert folders("0::/a:b\n", "35 24 0:30 / /mnt/c\\040g rw - cgroup2 none rw\n") == {(2, ""): "/mnt/c g/a:b"}


def test_nothing_is_mounted() -> None:
    assert folders("0::/\n", "") == {}


def test_limits_are_written_in_each_versions_words() -> None:
    assert dict(limit_files(2, "memory", LIMITS)) == {
        "memory.max": "67108864",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
    }
    assert limit_files(1, "memory", LIMITS)[0] == ("memory.limit_in_bytes", "67108864")
    assert limit_files(2, "cpu", LIMITS) == (("cpu.max", "50000 100000"), ("cpu.weight", "100"))
    assert dict(limit_files(1, "cpu", LIMITS)) == {
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "cpu.shares": "1024",
    }
    assert limit_files(1, "pids", LIMITS) == limit_files(2, "pids", LIMITS) == (("pids.max", "16"),)
    assert limit_files(1, "cpuacct", LIMITS) == ()


@pytest.mark.parametrize(
    ("abi", "lacking"),
    [
        (0, ("landlock", "landlock-net", "landlock-scope")),
        (3, ("landlock-net", "landlock-scope")),
        (4, ("landlock-scope",)),
        (6, ()),
        (9, ()),
    ],
)
def test_what_an_older_landlock_lacks_is_told(abi: int, lacking: tuple[str, ...]) -> None:
    assert landlock.missing(abi) == lacking


def test_an_older_landlock_is_asked_for_no_more_than_it_knows() -> None:
    known = {abi: landlock._known_file_rights(abi) for abi in (1, 2, 3, 4, 5, 7)}
    assert [rights.bit_count() for rights in known.values()] == [13, 14, 15, 15, 16, 16]
    assert [len(landlock._attributes(abi, known[abi], 3, 3)) for abi in (1, 3, 4, 5, 7)] == [8, 8, 16, 16, 24]
