# SPDX-License-Identifier: Apache-2.0
"""Owns where the cgroup2 hierarchy is mounted, as nft has to be told it.

Pure; read from /proc/PID/mountinfo by whoever needs it. Bind mounts of a part of it don't count.
"""

ROOT = "/sys/fs/cgroup"


def below(mountinfo: str) -> str:
    """The folder below /sys/fs/cgroup ("" for itself) that shows all of cgroup2; ValueError where none does."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split()
        if after.split()[:1] == ["cgroup2"] and words[3] == "/" and (words[4] + "/").startswith(ROOT + "/"):
            return words[4][len(ROOT) + 1 :]
    raise ValueError(f"no cgroup2 is mounted at {ROOT} or below it")
