# SPDX-License-Identifier: Apache-2.0
"""Committer of one signal: a running sshd reads its keys and settings anew. Open connections are not touched.

It signals only the process that /run/sshd.pid names, while that is an sshd of root's, by a descriptor of it.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from ipc.channel import Channel
from ipc.messages import CommitSshdReload
from workers.committers.commit import Workplace, serve

PID_FILE = "/run/sshd.pid"
LONGEST_PID = 10


def reload_sshd(request: CommitSshdReload, work: Workplace) -> str:
    """Send SIGHUP; the answer says to whom, or why to nobody."""
    pid = _pid(work.at(PID_FILE))
    if pid is None:
        return "no sshd runs yet"
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return "no sshd runs any more"
    try:
        # Looked at after the descriptor was opened: what is signalled is what was looked at, or nobody.
        folder = Path("/proc", str(pid))
        if (folder / "comm").read_bytes() != b"sshd\n" or folder.stat().st_uid != 0:
            return f"{PID_FILE} names process {pid}, which is no sshd: nobody was signalled"
        signal.pidfd_send_signal(process, signal.SIGHUP)
    except (FileNotFoundError, ProcessLookupError):
        return "no sshd runs any more"
    finally:
        os.close(process)
    return f"sshd, process {pid}, reads its keys and settings anew"


def _pid(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        text = os.read(descriptor, LONGEST_PID + 1).strip()
    finally:
        os.close(descriptor)
    return int(text) if text.isdigit() and len(text) <= LONGEST_PID and int(text) > 1 else None


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve(channel, lock, {CommitSshdReload: reload_sshd})
