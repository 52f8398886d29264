# SPDX-License-Identifier: Apache-2.0
"""Committer of custom data where no systemd runs (provisioning.md 8): has its companion run it once, in that one's
cgroup, and waits for its end.

Root without a capability: those that the script has are the companion's. It must never have it run again when an
earlier run may have begun: that one ended with its cgroup.
"""

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from ipc.channel import Channel
from ipc.descriptors import close_all
from ipc.errors import CommitError
from ipc.messages import CommitCustomData, Committed, ProgramEnded, RunScript
from workers.committers import once
from workers.committers.once import Once
from workers.committers.tools import ending
from workers.companion import Ask, companion
from workers.runtime import Answer, serve_once

OUTPUT = Path("/var/log/agent-supervisor-custom-data.log")
LIMITED = "without systemd it has a few capabilities only, and what it left running has ended with it"


def run_custom_data(order: CommitCustomData, record: Once, output: Path, ask: Ask) -> str:
    """Have it run unless it may have been run before, and say how it ended."""
    if record.stage:
        return "not run again: it was interrupted, and without systemd it ended with that"
    sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(sink, 0o600)
        record.note("started")
        began = time.monotonic()
        answer = ask(RunScript(order.path, order.with_shell, order.timeout_s), (sink,))
    finally:
        os.close(sink)
    status, _ = ending(answer)
    where = f"its output: {output}; {LIMITED}"
    if isinstance(answer, ProgramEnded) and answer.timed_out:
        return f"ended because it still ran after {order.timeout_s} s (Provisioning.CustomDataTimeout); {where}"
    how = f"ended by signal {-status}" if status < 0 else f"exit status {status}, which is ignored"
    return f"ran {time.monotonic() - began:.1f} s, {how}; {where}"


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    with companion() as ask_companion:
        serve_once(channel, lock, {CommitCustomData: partial(_on_order, ask_companion)})


def _on_order(ask: Ask, order: CommitCustomData, descriptors: tuple[int, ...]) -> Iterable[Answer]:
    try:
        fact = run_custom_data(order, once.from_order(descriptors), OUTPUT, ask)
    except OSError as error:
        raise CommitError(f"custom data: {error}") from error
    finally:
        close_all(descriptors)
    yield Committed((), fact[:1024])
