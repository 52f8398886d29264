# SPDX-License-Identifier: Apache-2.0
"""Committer of custom data where no systemd runs (provisioning.md 8): runs it once, as a child in its own cgroup.

Root with the few capabilities of its policy, which are the script's, too. It must never run it again when an earlier
run may have begun: that one ended with its cgroup.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ipc.channel import Channel
from ipc.descriptors import close_all
from ipc.errors import CommitError
from ipc.messages import CommitCustomData, Committed
from workers.committers import once
from workers.committers.once import Once
from workers.committers.tools import FOLDERS
from workers.runtime import Answer, serve_once

OUTPUT = Path("/var/log/agent-supervisor-custom-data.log")
ENVIRONMENT = {"PATH": ":".join(FOLDERS), "HOME": "/root", "LANG": "C.UTF-8"}
LIMITED = "without systemd it has a few capabilities only, and what it left running has ended with it"


def run_custom_data(order: CommitCustomData, record: Once, output: Path) -> str:
    """Run it unless it may have run before, and say how it ended."""
    if record.stage:
        return "not run again: it was interrupted, and without systemd it ended with that"
    program = ["/bin/sh", order.path] if order.with_shell else [order.path]
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "wb") as sink:
        os.fchmod(sink.fileno(), 0o600)
        record.note("started")
        began = time.monotonic()
        try:
            process = subprocess.Popen(
                program,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=ENVIRONMENT,
                cwd="/",
                umask=0o022,
                start_new_session=True,
            )
        except OSError as error:
            raise CommitError(f"{program[0]} does not start: {error.strerror}") from None
    status = _wait(process, order.timeout_s)
    where = f"its output: {output}; {LIMITED}"
    if status is None:
        return f"ended because it still ran after {order.timeout_s} s (Provisioning.CustomDataTimeout); {where}"
    how = f"ended by signal {-status}" if status < 0 else f"exit status {status}, which is ignored"
    return f"ran {time.monotonic() - began:.1f} s, {how}; {where}"


def _wait(process: "subprocess.Popen[bytes]", timeout_s: float) -> int | None:
    """Its exit status (negative: the signal), None when it was killed. Its children end with our cgroup, after us."""
    pidfd = os.pidfd_open(process.pid)
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(int(timeout_s * 1000)):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
    finally:
        os.close(pidfd)
    return process.wait()


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve_once(channel, lock, {CommitCustomData: _on_order})


def _on_order(order: CommitCustomData, descriptors: tuple[int, ...]) -> Iterable[Answer]:
    try:
        fact = run_custom_data(order, once.from_order(descriptors), OUTPUT)
    except OSError as error:
        raise CommitError(f"custom data: {error}") from error
    finally:
        close_all(descriptors)
    yield Committed((), fact[:1024])
