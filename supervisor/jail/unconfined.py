# SPDX-License-Identifier: Apache-2.0
"""Owns the last steps before a tenant's own program, root without any confinement: it inherits nothing of ours.

A program by itself (`python -I -m supervisor.jail.unconfined HIDDEN... -- PROGRAM...`), started by systemd. It must not
keep what the program mounts from the rest of the machine, which systemd's own way of hiding folders does.
"""

import os
import signal
import sys
from collections.abc import Sequence

from supervisor.jail import mounts, syscalls
from supervisor.jail.mount_points import mount_point

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
NOT_STARTED = 127
_NEWNS = 0x00020000


def main(arguments: Sequence[str]) -> int:
    """Become the program; the exit status, as a shell has it, when that fails."""
    end = arguments.index("--")
    hidden, program = arguments[:end], arguments[end + 1 :]
    try:
        hide(hidden)
    except OSError as error:
        say(f"custom data can see the agent's folders: {error}")
    try:
        # Python ignores both, and a program would inherit that.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        syscalls.close_range(3, 0xFFFFFFFF)
        os.chdir("/")
        os.umask(0o022)
        os.execve(program[0], list(program), ENVIRONMENT)
    except OSError as error:
        say(f"{program[0]} can't be run: {error.strerror}")
    return NOT_STARTED


def hide(paths: Sequence[str]) -> None:
    """Cover `paths` for this process and its children alone, who mount and unmount for the whole machine as before.

    OSError when one of the two can't be had (no shared mounts, or Linux before 5.15): then nothing is covered."""
    there = [path for path in paths if os.path.isdir(path)]
    points = {_mount_point(path) for path in there}
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    roots = {point: os.open(point, os.O_PATH | os.O_CLOEXEC) for point in points}
    syscalls.unshare(_NEWNS)
    try:
        # A cover must not show up everywhere: it is laid while its mount is nobody's peer, which it then becomes again.
        for point in points:
            mounts.make_private(point, below=False)
        mounts.cover(there)
        for point, root in roots.items():
            syscalls.share_as(root, point)
    except OSError:
        syscalls.setns(before, _NEWNS)
        raise


def _mount_point(path: str) -> str:
    """Where the mount begins that `path` lies in; OSError unless it is shared with other mount namespaces."""
    found, is_shared = mount_point(path)
    if not is_shared:
        raise OSError(0, f"{found} is not shared with other mount namespaces")
    return found


def say(text: str) -> None:
    """One line of our own among the program's output."""
    os.write(2, f"agent-supervisor: {text}\n".encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
