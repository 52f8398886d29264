# SPDX-License-Identifier: Apache-2.0
"""Owns the end of whatever runs as an account that is to be no more: its number may soon be another one's.

Runs in the jit-account committer, with the right to signal anybody. It signals a process only while it holds on to it
and has seen the uid on it, so that no successor of its number is hit.
"""

import os
import signal
import time
from pathlib import Path

from ipc.errors import CommitError

PATIENCE_S = 5.0
PAUSE_S = 0.02
PROC = Path("/proc")


def end_all(uid: int) -> int:
    """Kill what has `uid` as any of its uids, and what that starts meanwhile; how many were killed. CommitError when
    some still run after a few seconds: what waits for a disk can't be ended."""
    ends, killed = time.monotonic() + PATIENCE_S, set[int]()
    while found := [pid for pid in _pids() if _runs_as(pid, uid)]:
        if time.monotonic() > ends:
            raise CommitError(f"{len(found)} processes of uid {uid} can't be ended, such as {found[0]}")
        killed |= {pid for pid in found if _kill(pid, uid)}
        time.sleep(PAUSE_S)
    return len(killed)


def _pids() -> list[int]:
    return [int(entry.name) for entry in os.scandir(PROC) if entry.name.isdecimal()]


def _kill(pid: int, uid: int) -> bool:
    try:
        held = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not _runs_as(pid, uid):
            return False
        signal.pidfd_send_signal(held, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(held)


def _runs_as(pid: int, uid: int) -> bool:
    """By what /proc shows; a process that has ended and only waits to be noticed does not run."""
    try:
        lines = PROC.joinpath(str(pid), "status").read_bytes().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    fields = {words[0]: words[1:] for words in map(bytes.split, lines) if words}
    return str(uid).encode() in fields[b"Uid:"] and fields[b"State:"][0] not in {b"Z", b"X"}
