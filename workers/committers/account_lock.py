# SPDX-License-Identifier: Apache-2.0
"""Owns the lock on the account files, as the distribution's own tools take it.

Runs in committers, as root. It must never be held for longer than one file is rewritten.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipc.errors import CommitError

LOCK_FILE = "/etc/.pwd.lock"
PATIENCE_S = 15.0


@contextmanager
def account_lock(path: Path, patience_s: float) -> Iterator[None]:
    """The lock of lckpwdf(3): a record lock on one file, which passwd, useradd and the like take before writing."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience_s
        while not _taken(descriptor):
            if time.monotonic() > deadline:
                raise CommitError(f"the account files have been locked by another program for {patience_s:g} s")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True
