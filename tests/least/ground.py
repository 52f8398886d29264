# SPDX-License-Identifier: Apache-2.0
"""Owns the machine on which experiments are made: a lab with an sshd, and with SELinux as far as programs can see it.

Runs in the test. What a scenario needs beyond that it prepares itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.fabric.image_sshd import sshd_files
from tests.fabric.lab import Lab
from tests.fabric.systemd_lab import SystemdLab
from tests.jail.rigged import HOME

# A kernel that labels files shows itself by these; the rest of /sys/fs stays.
SELINUX = (
    "mkdir /run/kept; mount -n --rbind /sys/fs/cgroup /run/kept",
    "mount -n -t tmpfs -o mode=0755 none /sys/fs",
    "mkdir /sys/fs/cgroup /sys/fs/selinux; mount -n --rbind /run/kept /sys/fs/cgroup",
    "echo 1 >/sys/fs/selinux/enforce; : >/sys/fs/selinux/context",
)


@contextmanager
def machine() -> Iterator[Lab]:
    """The lab, ready for a rig."""
    with Lab(sshd_files()) as lab:
        lab.path(HOME).mkdir()
        lab.output("sh", "-ec", "; ".join(SELINUX))
        yield lab


@contextmanager
def machine_with_systemd() -> Iterator[Lab]:
    """The same with systemd as its first process, which is slower to come up."""
    with SystemdLab(sshd_files()) as lab:
        lab.output("mkdir", "-p", HOME)
        yield lab


# Kinds whose jobs are done on another machine than the others'.
GROUNDS = {"custom-data": machine_with_systemd, "handler-start": machine_with_systemd}
