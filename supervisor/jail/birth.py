# SPDX-License-Identifier: Apache-2.0
"""Owns a fork whose child is born in its cgroup where the kernel can do that; runs in the spawner.

Moving a process into a version 2 group afterwards makes it wait about 10 ms for the kernel, on its way to work.
"""

import os

from supervisor.jail import syscalls
from supervisor.jail.cgroup import Group


def fork_in(group: Group) -> tuple[int, bool]:
    """(0 in the child, else its pid; whether it was born in the group's version 2 folder).

    The child still has to `group.join(born_in_unified=...)`. Only for a process with one thread."""
    if group.unified is None:
        return os.fork(), False
    folder = os.open(group.unified, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return syscalls.fork_into(folder), True
    except OSError:
        # A kernel before 5.7, or a group that takes no process this way.
        return os.fork(), False
    finally:
        os.close(folder)
