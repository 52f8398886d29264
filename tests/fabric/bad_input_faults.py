# SPDX-License-Identifier: Apache-2.0
"""Owns what can be wrong with a machine: made in a lab, around an agent that knows nothing of it, and mended again.

Runs in tests, outside the lab. It changes the lab's own file systems and namespaces, never the host's.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fabric.lab import Lab, PlacedFile

PLENTY = "size=1g,nr_inodes=100000"
# Holds the lock of lckpwdf(3), which every account tool takes, until its input closes.
HOLDER = """
import fcntl, sys
held = open("/etc/.pwd.lock", "a")
fcntl.lockf(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
CLOCK_LIBRARY = "/usr/lib/lab-clock.so"
CLOCK_LIST = "/etc/ld.so.preload"
# The machine's clock can't be set for a lab alone: the C library's answer is, for every program that is started there.
CLOCK_SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void find(void) { *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime"); }

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!real)
        find();
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec -= BACK;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact))
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (where)
        *where = exact.tv_sec;
    return exact.tv_sec;
}
"""


def fill_disk(lab: Lab, left_bytes: int) -> None:
    """The root's file system has room for `left_bytes` more, not counting what is rounded up to pages."""
    room = os.statvfs(_stage(lab))
    _remount(lab, f"size={(room.f_blocks - room.f_bfree) * room.f_frsize + left_bytes}")


def use_up_inodes(lab: Lab, left: int) -> None:
    """The root's file system has room for `left` more files."""
    room = os.statvfs(_stage(lab))
    _remount(lab, f"nr_inodes={room.f_files - room.f_ffree + left}")


def make_room(lab: Lab) -> None:
    """As `fill_disk` and `use_up_inodes` had never been."""
    _remount(lab, PLENTY)


def make_read_only(lab: Lab, folder: str) -> None:
    """Nothing at or below `folder` can be written any more, whatever is mounted further down."""
    lab.output("mount", "-n", "--bind", folder, folder)
    lab.output("mount", "-n", "-o", "remount,bind,ro", folder)


def make_writable(lab: Lab, folder: str) -> None:
    """Take `make_read_only` back."""
    lab.output("umount", "-n", "-l", folder)


def mount_small(lab: Lab, folder: str, options: str = "") -> None:
    """A file system of its own at `folder`, empty, with `options` of tmpfs."""
    lab.output("mount", "-n", "-t", "tmpfs", "-o", f"mode=0755{options and ','}{options}", "small", folder)


@contextmanager
def accounts_locked(lab: Lab) -> Iterator[None]:
    """Some program of the lab holds the lock on the account files."""
    holder = lab.popen([sys.executable, "-I", "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait(timeout=5)


def clock_of_1970() -> dict[str, PlacedFile | bytes]:
    """Files of an image whose programs, all of them, take it to be a minute after midnight, 1 January 1970."""
    with TemporaryDirectory() as folder:
        made = Path(folder, "lab-clock.so")
        compiler = ["cc", "-shared", "-fPIC", f"-DBACK={int(time.time()) - 60}L", "-o", str(made), "-x", "c", "-"]
        subprocess.run(compiler, input=CLOCK_SOURCE.encode(), check=True)
        library = made.read_bytes()
    return {CLOCK_LIBRARY: PlacedFile(library, 0o755), CLOCK_LIST: f"{CLOCK_LIBRARY}\n".encode()}


def _stage(lab: Lab) -> Path:
    """What the root of the lab writes to, as the host reaches it."""
    return Path(f"/proc/{lab.keeper_pid}/root{lab.stage}")


def _remount(lab: Lab, options: str) -> None:
    enter = ["nsenter", "--target", str(lab.keeper_pid), "--mount", "--"]
    subprocess.run([*enter, "mount", "-n", "-o", f"remount,{options}", lab.stage], check=True)
